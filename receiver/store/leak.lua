-- Note which networks get through although they are banned: a request of theirs began too long after the ban, and
-- another one did some time before.
--   KEYS     leaks: ZSET "sender network" -> ms when it was seen last; suspects: the same -> ms when the last such
--            request began; bans; then the ban of each network that is asked about
--   ARGV     what the clock should say, ms; by how much it may differ, ms; no ban is judged that was made before
--            this time, ms; the time from a ban to a leak, from one such request to the next, and to forgetting it, ms;
--            the most to remember; then for each network: the sender, the network, ms since its last request began
--   returns  the time, ms; then sender, network and ms after its ban, for each that gets through
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local clock, step, after, late, apart, kept, most = unpack(ARGV, 1, 7)
if math.abs(now - clock) > tonumber(step) then return {now} end -- it was set, or is not known yet
for i = 1, 2 do redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - kept) end
local found = {now}
for i = 4, #KEYS do
  local sender, network, age = unpack(ARGV, 3 * i - 4, 3 * i - 2)
  local pair, began = sender .. ' ' .. network, now - age
  local standing = tonumber(redis.call('ZSCORE', KEYS[3], network) or 0) > now
  local since = standing and tonumber(redis.pcall('HGET', KEYS[i], 'since')) or math.huge
  if since >= tonumber(after) and began > since + late then
    local last = tonumber(redis.call('ZSCORE', KEYS[2], pair) or -1)
    local again = last > since and began >= last + apart
    if again then
      redis.call('ZADD', KEYS[1], now, pair)
      for _, word in ipairs({sender, network, now - since}) do found[#found + 1] = word end
    end
    if again or last < since and redis.call('ZCARD', KEYS[2]) < tonumber(most) then redis.call('ZADD', KEYS[2], began, pair) end
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)
for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], kept) end
return found
