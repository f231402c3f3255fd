-- Count failures of one address under one rule: exact over any findtime, and safe to repeat.
--   KEYS[1]  pinban:count:{address}:rule    string, what people read
--   KEYS[2]  pinban:window:{address}:rule   ZSET "id rp alias" -> ms; the member "!" is the last ban, see reset.lua
--   ARGV     findtime, ms; maxretry; the count from which on the window is returned; then triples: failure id, its RP
--            and alias, its age in ms
--   returns  failures in the window now, at most maxretry; then, from that count on, the window, member and ms in turn
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local findtime, maxretry = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - findtime)
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + 1000, '+inf')  -- Redis' clock was set back
local seen = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do seen[string.match(member, '^%S*')] = true end
for i = 4, #ARGV, 3 do
  local id, at = ARGV[i], now - tonumber(ARGV[i + 2])
  if at > now - findtime and not seen[id] then
    seen[id] = true
    redis.call('ZADD', KEYS[2], at, id .. ' ' .. ARGV[i + 1])
  end
end
local banned = redis.call('ZSCORE', KEYS[2], '!')
local since = banned and '(' .. banned or '-inf'
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -maxretry - 2)
if redis.call('ZCOUNT', KEYS[2], since, '+inf') > maxretry or not banned then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -maxretry - 1)
end
local window = redis.call('ZRANGEBYSCORE', KEYS[2], since, '+inf', 'WITHSCORES')
local count = #window / 2
if count == 0 then return {0} end
local ttl = window[#window] + findtime - now
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('SET', KEYS[1], count, 'PX', ttl)
if count >= tonumber(ARGV[3]) then return {count, unpack(window)} end
return {count}
