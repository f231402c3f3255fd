-- Note wrong PINs on one room.
--   KEYS[1]  pinban:room:{room}:failures    ZSET failure id -> ms
--   KEYS[2]  pinban:room:{room}:addresses   HyperLogLog of the networks (/24, /48), empty again after each window
--   ARGV     window, ms; failures kept; then triples: failure id, network, its age in ms
--   returns  failures in the window, at most as many as are kept; distinct networks, give or take 1 %
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
for i = 3, #ARGV, 3 do
  redis.call('ZADD', KEYS[1], now - tonumber(ARGV[i + 2]), ARGV[i])
  redis.call('PFADD', KEYS[2], ARGV[i + 1])
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[2]) - 1)
redis.call('PEXPIRE', KEYS[1], window)
if redis.call('PTTL', KEYS[2]) < 0 then redis.call('PEXPIRE', KEYS[2], window) end
return {redis.call('ZCARD', KEYS[1]), redis.call('PFCOUNT', KEYS[2])}
