-- End the doubt about a sender before its time, and count its bans from zero; write it into the history.
--   KEYS     doubted, history, the bans of the sender, what became of them
--   ARGV     sender, by whom
--   returns  1 when it was doubted, else 0
local was = redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[3], KEYS[4])
if was == 1 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'event', 'trust', 'sender', ARGV[1], 'by', ARGV[2])
end
return was
