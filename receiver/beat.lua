-- Let every enforcer know that the ledger is alive and at which revision; also forget bans that are over.
-- All receivers call this every second. While the last beat's mark stands the others stay silent, so whoever comes
-- first after it is gone beats next, and no receiver is missed when it dies.
--   KEYS     beat, epoch, rev, bans
--   ARGV     by whom, ms that the mark stands, channel, digits for a new epoch
--   returns  1 when this call was the beat, else 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now) -- first: a full Redis grants this, and then the rest
if not redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 0 end
local rev = tonumber(redis.call('GET', KEYS[3]) or 0)
redis.call('PUBLISH', ARGV[3], cmsgpack.pack({'beat/1', epoch_of(KEYS[2], ARGV[4]), rev, now}))
return 1
