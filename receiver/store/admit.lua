-- Admit rooms to be watched, up to a limit: hostile aliases must not fill the memory.
--   KEYS[1]  {pinban}:rooms   ZSET alias -> ms of its last wrong PIN
--   ARGV     window, ms; the most rooms; then aliases
--   returns  1 or 0 for each alias
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]))
local admitted, free = {}, tonumber(ARGV[2]) - redis.call('ZCARD', KEYS[1])
for i = 3, #ARGV do
  local known = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if known or free > 0 then
    if not known then free = free - 1 end
    redis.call('ZADD', KEYS[1], now, ARGV[i])
    admitted[i - 2] = 1
  else
    admitted[i - 2] = 0
  end
end
return admitted
