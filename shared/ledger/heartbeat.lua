-- Tell every enforcer that the ledger is alive and at which revision; also forget bans that are over.
-- Every worker of every receiver calls this each second. While the mark of the last heartbeat is fresh nothing is sent;
-- the first call after that sends the next one, so any receiver takes over from one that dies.
-- A mark from the future shows that Redis' clock was set back. Then the ends of the bans move back too, so that no ban
-- lasts longer: by 1,250 ms more than the mark shows, because it is up to 2,500 ms old. A ban made since then has a
-- right end, which mostly lies before the mark.
--   KEYS     heartbeat, epoch, rev, bans
--   ARGV     by whom, ms that the mark is fresh, channel, digits for a new epoch
--   returns  1 when this call was the heartbeat, else 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now) -- first: a full Redis grants this, and then the rest
local back = tonumber(string.match(redis.call('GET', KEYS[1]) or '', ' (%d+)$') or 0) - now
if back > -tonumber(ARGV[2]) and back < 1000 then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%d', now))
if back >= 1000 then
  local bans = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
  for i = 1, #bans, 2 do
    if tonumber(bans[i + 1]) > now + back then redis.call('ZADD', KEYS[4], bans[i + 1] - back - 1250, bans[i]) end
  end
  redis.call('INCR', KEYS[3])
end
local rev = tonumber(redis.call('GET', KEYS[3]) or 0)
redis.call('PUBLISH', ARGV[3], cmsgpack.pack({'heartbeat/1', epoch_of(KEYS[2], ARGV[4]), rev, now}))
return 1
