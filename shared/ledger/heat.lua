-- Declare a room hot, unless it is hot already; publish it and write it into the history.
--   KEYS     hot, epoch, rev, history
--   ARGV     alias, ms that it stays hot, failures, distinct addresses, by whom, channel, digits for a new epoch
--   returns  1 when it is hot from now on, 0 when it was hot already
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'event', 'hot', 'room', ARGV[1], 'failures', ARGV[3],
  'addresses', ARGV[4], 'by', ARGV[5])
local rev = tonumber(redis.call('GET', KEYS[3]) or 0)
redis.call('PUBLISH', ARGV[6], cmsgpack.pack({'hot/1', epoch_of(KEYS[2], ARGV[7]), rev, ARGV[1], tonumber(ARGV[2])}))
return 1
