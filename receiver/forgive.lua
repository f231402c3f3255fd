-- Take back failures of one address on one room, the latest first, because a right PIN followed them.
--   KEYS[1]  pinban:count:{address}:rule
--   KEYS[2]  pinban:window:{address}:rule
--   ARGV     alias, as the window's members end; how many at most
--   returns  how many were taken back
local taken = 0
for _, member in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, -1)) do
  if taken < tonumber(ARGV[2]) and string.match(member, '^%S+ %S+ (.*)$') == ARGV[1] then
    taken = taken + redis.call('ZREM', KEYS[2], member)
  end
end
local banned = redis.call('ZSCORE', KEYS[2], '!')
local count = redis.call('ZCOUNT', KEYS[2], banned and '(' .. banned or '-inf', '+inf')
local ttl = redis.call('PTTL', KEYS[2])
if count == 0 then
  redis.call('DEL', KEYS[1])
elseif taken > 0 and ttl > 0 then
  redis.call('SET', KEYS[1], count, 'PX', ttl)
end
return taken
