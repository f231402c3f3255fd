-- Record a ban, unless the network is banned already; publish it and write it into the history. A simulated ban is
-- recorded in keys of its own, and neither published nor a strike.
--   KEYS     bans, ban, strikes, rev, epoch, history; or simulated and simulation in the place of the first two
--   ARGV     network, its bantime in ms, rule, evidence, by whom, channel, digits for a new epoch, strikes kept for ms,
--            "lengthen" a standing ban, "simulate", or ""
--   returns  1 when recorded or lengthened, else 0; until, ms; strikes
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local network, bantime, rule = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local untilms = now + bantime
local function strikes_held() -- 0 where a person wrote something else
  local held = redis.pcall('GET', KEYS[3])
  return tonumber(type(held) == 'string' and held) or 0
end
local standing = tonumber(redis.call('ZSCORE', KEYS[1], network) or 0)
if standing > now and (ARGV[9] ~= 'lengthen' or standing >= untilms) then
  return {0, standing, strikes_held()}
end
local simulate = ARGV[9] == 'simulate'
redis.call('DEL', KEYS[2]) -- first: a full Redis grants this, and after a script's first write every other
-- What may fail on a key that a person overwrote comes before the ban stands: a ban that is not published is enforced by
-- nobody, and the next failure would find it standing.
local rev, epoch
if not simulate then rev, epoch = redis.call('INCR', KEYS[4]), epoch_of(KEYS[5], ARGV[7]) end
redis.call('XADD', KEYS[6], 'MAXLEN', '~', 10000, '*', 'event', simulate and 'simulated' or 'ban', 'network', network, 'rule', rule,
  'bantime', ARGV[2], 'until', untilms, 'evidence', ARGV[4], 'by', ARGV[5])
if standing <= now and not simulate then
  if type(redis.pcall('INCR', KEYS[3])) == 'table' then redis.call('SET', KEYS[3], 1) end -- it held no number
  redis.call('PEXPIRE', KEYS[3], bantime + ARGV[8])
end
local strikes = strikes_held()
redis.call('ZADD', KEYS[1], untilms, network)
redis.call('HSET', KEYS[2], 'rule', rule, 'since', now, 'until', untilms, 'strikes', strikes, 'evidence', ARGV[4], 'by', ARGV[5])
redis.call('PEXPIREAT', KEYS[2], untilms)
if simulate then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  return {1, untilms, strikes}
end
redis.call('PUBLISH', ARGV[6], cmsgpack.pack({'ban/1', epoch, rev, network, bantime, rule}))
return {1, untilms, strikes}
