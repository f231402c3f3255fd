-- Change the central allow-list, and lift the bans that it now forbids; publish all of it, write it into the history.
--   KEYS     bans, allow, rev, epoch, history; then a ban and its strikes for each network to let in
--   ARGV     network; its JSON, or "" to take it off the list; by whom, channel, digits for a new epoch; then the
--            banned networks to let in
--   returns  how many bans were lifted; 1 when the list changed, else 0
local changed
if ARGV[2] == '' then
  changed = redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  changed = 1
end
if changed == 0 then return {0, 0} end
local epoch, lifted = epoch_of(KEYS[4], ARGV[5]), 0
for i = 6, #ARGV do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    lifted = lifted + 1
    redis.call('DEL', KEYS[2 * i - 6], KEYS[2 * i - 5])
    redis.call('PUBLISH', ARGV[4], cmsgpack.pack({'unban/1', epoch, redis.call('INCR', KEYS[3]), ARGV[i]}))
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', 10000, '*', 'event', 'unban', 'network', ARGV[i], 'why', 'allow-list', 'by', ARGV[3])
  end
end
redis.call('XADD', KEYS[5], 'MAXLEN', '~', 10000, '*', 'event', ARGV[2] == '' and 'disallow' or 'allow', 'network', ARGV[1],
  'facts', ARGV[2], 'by', ARGV[3])
redis.call('PUBLISH', ARGV[4], cmsgpack.pack({'allow/1', epoch, redis.call('INCR', KEYS[3])}))
return {lifted, 1}
