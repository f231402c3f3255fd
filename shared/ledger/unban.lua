-- End a ban before its time and forget the network's strikes; publish it and write it into the history.
-- Published even if the ledger has no such ban: a firewall may still hold one of a ledger that was lost.
--   KEYS     bans, ban, strikes, rev, epoch, history
--   ARGV     network, why, by whom, channel, digits for a new epoch
--   returns  1 when it was banned, else 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local standing = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
redis.call('DEL', KEYS[2], KEYS[3])
local rev, epoch = redis.call('INCR', KEYS[4]), epoch_of(KEYS[5], ARGV[5]) -- before the ban is gone, see ban.lua
redis.call('XADD', KEYS[6], 'MAXLEN', '~', 10000, '*', 'event', 'unban', 'network', ARGV[1], 'why', ARGV[2], 'by', ARGV[3])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[4], cmsgpack.pack({'unban/1', epoch, rev, ARGV[1]}))
return standing > now and 1 or 0
