-- Count an address from zero, because it was banned. The failures so far stay in the window, below the mark "!": one of
-- them that comes again through another receiver is then known, and does not count again. The mark stands half a
-- millisecond later than this moment: else it would be older than failures of the same millisecond, and be cut off.
--   KEYS     pinban:count:{address}:rule and pinban:window:{address}:rule in turn, for each window
--   returns  nothing
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #KEYS, 2 do
  redis.call('DEL', KEYS[i])
  if redis.call('EXISTS', KEYS[i + 1]) == 1 then redis.call('ZADD', KEYS[i + 1], now + 0.5, '!') end
end
