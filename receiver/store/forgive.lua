-- Take back failures of one address on one room, the latest first, because a right PIN followed them. Safe to repeat,
-- also through another receiver: a join that comes again takes back the same failures, in case they came again too.
--   KEYS[1]  pinban:count:{address}:rule
--   KEYS[2]  pinban:window:{address}:rule
--   KEYS[3]  pinban:forgiven:{address}:rule:join   string, TTL: ids of the failures that this join took back
--   ARGV     alias, as the window's members end; how many at most; how long the join is remembered, ms
--   returns  how many were taken back
redis.call('ZREM', KEYS[2], '')  -- takes no memory: after such a write a full Redis lets a script do the rest too
local before, ids, taken = redis.call('GET', KEYS[3]), ' ', 0
for _, member in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, -1)) do
  local id, alias = string.match(member, '^(%S+) %S+ (.*)$')
  local again = before and id and string.find(before, ' ' .. id .. ' ', 1, true)
  if alias == ARGV[1] and (again or not before and taken < tonumber(ARGV[2])) then
    taken = taken + redis.call('ZREM', KEYS[2], member)
    ids = ids .. id .. ' '
  end
end
if not before then redis.call('SET', KEYS[3], ids, 'PX', ARGV[3]) end
local banned = redis.call('ZSCORE', KEYS[2], '!')
local count = redis.call('ZCOUNT', KEYS[2], banned and '(' .. banned or '-inf', '+inf')
local ttl = redis.call('PTTL', KEYS[2])
if count == 0 then
  redis.call('DEL', KEYS[1])
elseif taken > 0 and ttl > 0 then
  redis.call('SET', KEYS[1], count, 'PX', ttl)
end
return taken
