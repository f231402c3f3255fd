-- Move the mark of what was mailed forward, unless another receiver has: it must never go back.
--   KEYS[1]  {pinban}:mailed   the id of the last entry that mail was sent about
--   ARGV     the id that it had; the id that it gets
--   returns  1 when moved, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
