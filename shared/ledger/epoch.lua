-- The epoch of the ledger, for the scripts that publish: this file is put before theirs.
-- A server that takes over from another, or starts again, may lack the last changes and then gives their revisions to
-- other changes. So an epoch ends with the id of the process that wrote it, and the first write of another process
-- begins a new epoch.
--   KEYS     none; the caller's key is given
--   ARGV     none; a new epoch is made of eight random digits of the caller's
--   returns  sixteen hexadecimal digits
local function epoch_of(key, random)
  local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x%x%x%x%x%x%x%x)')
  local epoch = redis.call('GET', key)
  if not epoch or string.sub(epoch, -8) ~= server then
    epoch = string.sub(random, 1, 8) .. server
    redis.call('SET', key, epoch)
  end
  return epoch
end
