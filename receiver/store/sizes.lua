-- Note sizes of refusals that no setting explains; forged lines must not fill the memory.
--   KEYS[1]  {pinban}:sizes   hash size -> how often, TTL; "more" -> how often another size came when it was full
--   ARGV     the most sizes; how long the hash is kept from its first line on, ms; then pairs: size, how often
--   returns  sizes in the hash
local free = tonumber(ARGV[1]) - redis.call('HLEN', KEYS[1])
for i = 3, #ARGV, 2 do
  local field = ARGV[i]
  local known = redis.call('HGET', KEYS[1], field)
  if not known and free > 0 then
    free = free - 1
  elseif not known then
    field = 'more'
    known = redis.call('HGET', KEYS[1], field)
  end
  local count = math.min((tonumber(known) or 0) + tonumber(ARGV[i + 1]), 1e12)
  redis.call('HSET', KEYS[1], field, string.format('%.0f', count))
end
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('HLEN', KEYS[1])
