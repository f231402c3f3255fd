-- Watch rooms; when there are too many, drop the coldest. Each wrong PIN keeps its room warm for a step longer.
--   KEYS[1]  {pinban}:rooms   ZSET room -> warm until, ms
--   ARGV     window, ms; failures that make a room hot, of which one is a step of the window; the most rooms; then
--            pairs: room, how many wrong PINs on it
--   returns  the rooms that were dropped
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window, step, most = tonumber(ARGV[1]), ARGV[1] / ARGV[2], tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + window + 1, '+inf')  -- Redis' clock was set back
for i = 4, #ARGV, 2 do
  local warm = math.max(tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0), now)
  redis.call('ZADD', KEYS[1], math.min(math.floor(warm + step * ARGV[i + 1]), now + window), ARGV[i])
end
local over = redis.call('ZCARD', KEYS[1]) - most
if over <= 0 then return {} end
local dropped = redis.call('ZRANGE', KEYS[1], 0, over - 1)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
return dropped
