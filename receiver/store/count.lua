-- Count failures of one network under one rule: exact over any findtime, and safe to repeat. With numbered.lua before it.
--   KEYS[1]  pinban:count:{network}:rule    string, what people read
--   KEYS[2]  pinban:window:{network}:rule   ZSET "id rp alias", in a wider network "id client rp alias" -> ms, where the
--            client is the network of the next narrower level; the member "!" is the last ban, see reset.lua
--   KEYS[3]  pinban:copies:{network}:rule   see numbered.lua; only if there is an arrival
--   ARGV     findtime, ms; the most failures kept; the count from which on the window is returned; the most that count of one
--            client, or 0 for all; then for each failure: id, arrival or "", the rest of its member, its age in ms
--   returns  failures in the window now, at most as many as are kept; then, from that count on, the window, member and ms
--            in turn
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local findtime, kept, share = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - findtime)
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + 1000, '+inf')  -- Redis' clock was set back
local seen, each = {}, {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local id, client = string.match(member, '^(%S*) ?(%S*)')
  seen[id], each[client] = true, (each[client] or 0) + 1
  if member == '!' then each = {} end -- what was before a ban fills no share after it
end
for i = 5, #ARGV, 4 do
  local id, at, client = ARGV[i], now - tonumber(ARGV[i + 3]), string.match(ARGV[i + 2], '^%S*')
  if ARGV[i + 1] ~= '' then id = numbered(KEYS[3], id, ARGV[i + 1], kept, findtime) end
  if at > now - findtime and not seen[id] and (share == 0 or (each[client] or 0) < share) then
    seen[id], each[client] = true, (each[client] or 0) + 1
    redis.call('ZADD', KEYS[2], at, id .. ' ' .. ARGV[i + 2])
  end
end
local banned = redis.call('ZSCORE', KEYS[2], '!')
local since = banned and '(' .. banned or '-inf'
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -kept - 2)
if redis.call('ZCOUNT', KEYS[2], since, '+inf') > kept or not banned then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -kept - 1)
end
local window = redis.call('ZRANGEBYSCORE', KEYS[2], since, '+inf', 'WITHSCORES')
local count = #window / 2
if count == 0 then return {0} end
local ttl = window[#window] + findtime - now
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('SET', KEYS[1], count, 'PX', ttl)
if count >= tonumber(ARGV[3]) then return {count, unpack(window)} end
return {count}
