-- Note the probes that came to a receiver, in any order; one may come more than once.
--   KEYS     probes
--   ARGV     receiver; most paths; probes in a window; ms after which a silent path is forgotten; then for each probe
--            RP, instance, number, when nginx was asked (ms of Redis TIME, 0: not known), its age in ms
--   returns  how many were left out because there are too many paths
local time, left_out = redis.call('TIME'), 0
local now, most = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[2])
local width, keep = tonumber(ARGV[3]), tonumber(ARGV[4])
local function held(value) -- nil for what this script did not write: a person may have written anything
  local ok, path = pcall(cjson.decode, value or '')
  if not ok or type(path) ~= 'table' or type(path.instance) ~= 'string' or type(path.window) ~= 'string' then return end
  for _, name in ipairs({'last', 'seen', 'lag'}) do
    if type(path[name]) ~= 'number' or path[name] % 1 ~= 0 or path[name] < -1 or path[name] > 2^53 then return end
  end
  return {instance = path.instance, last = path.last, window = path.window, seen = path.seen, lag = path.lag}
end
if redis.call('HLEN', KEYS[1]) >= most then
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local path = held(redis.call('HGET', KEYS[1], name)) or {seen = 0}
    if path.seen < now - keep then redis.call('HDEL', KEYS[1], name) end
  end
end
for i = 5, #ARGV, 5 do
  local name, number, asked = ARGV[1] .. ' ' .. ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local seen, path = now - tonumber(ARGV[i + 4]), held(redis.call('HGET', KEYS[1], name))
  if not path and redis.call('HLEN', KEYS[1]) >= most then left_out = left_out + 1 else
    local fresh = {instance = ARGV[i + 1], last = number - 1, window = '', seen = 0, lag = -1}
    if not path or path.instance ~= fresh.instance then path = fresh end
    local ahead, at = number - path.last, #path.window + number - path.last
    if ahead > 0 then
      path.last, path.window = number, (path.window .. ('0'):rep(math.min(ahead - 1, width)) .. '1'):sub(-width)
    elseif at > 0 then path.window = path.window:sub(1, at - 1) .. '1' .. path.window:sub(at + 1) end
    if seen >= path.seen then path.seen, path.lag = seen, asked > 0 and math.max(seen - asked, 0) or -1 end
    redis.call('HSET', KEYS[1], name, cjson.encode(path))
  end
end
redis.call('PEXPIRE', KEYS[1], keep)
return left_out
