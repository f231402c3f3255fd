-- Remember the clients that joined from a wider network, each with its last join.
--   KEYS[1]  pinban:joined:{network}   ZSET client -> ms, TTL
--   ARGV     how long a join is remembered, ms; the most clients; then pairs: client, age of its join in ms
--   returns  nothing
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - length)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 1000, '+inf')  -- Redis' clock was set back
for i = 3, #ARGV, 2 do
  local at = now - tonumber(ARGV[i + 1])
  if at > now - length then redis.call('ZADD', KEYS[1], 'GT', at, ARGV[i]) end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[2]) - 1)
redis.call('PEXPIRE', KEYS[1], length)
