-- Count a ban for each sender of its evidence. A sender with too many bans within a minute is doubted, until a while
-- after the last such minute.
--   KEYS     doubted, history; then the bans of each sender: ZSET network -> ms, TTL
--   ARGV     network; the most bans in a minute; how long a sender is doubted, ms; by whom; then the senders
--   returns  the senders that are doubted from now on; those that were doubted before; now, ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most, minute = tonumber(ARGV[2]), 60000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local fresh, known = {}, {}
for i = 3, #KEYS do
  local sender = ARGV[i + 2]
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - minute)
  redis.call('ZADD', KEYS[i], 'NX', now, ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[i], 0, -most - 2)
  redis.call('PEXPIRE', KEYS[i], minute)
  local doubted = redis.call('ZSCORE', KEYS[1], sender)
  if redis.call('ZCARD', KEYS[i]) > most then
    redis.call('ZADD', KEYS[1], now + ARGV[3], sender)
    if not doubted then
      fresh[#fresh + 1] = sender
      redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'event', 'doubt', 'sender', sender, 'most', most, 'by', ARGV[4])
    end
  end
  if doubted then known[#known + 1] = sender end
end
return {fresh, known, now}
