-- Ask every enforcer whether networks had a connection to its ports; the answers come as fields of hashes.
--   KEYS     epoch, rev
--   ARGV     channel, digits for a new epoch; then triples: network, age of the first failure in question, ms, and the
--            question's id
--   returns  how many enforcers and others have heard the last question
local rev, epoch, heard = tonumber(redis.call('GET', KEYS[2]) or 0), epoch_of(KEYS[1], ARGV[2]), 0
for i = 3, #ARGV, 3 do
  heard = redis.call('PUBLISH', ARGV[1], cmsgpack.pack({'question/1', epoch, rev, ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]}))
end
return heard
