-- Note the beats that came to a receiver; in any order, each as often as it comes.
--   KEYS     beats
--   ARGV     receiver; most routes; beats in a window; ms after which a silent route is forgotten; then for each beat
--            RP, instance, number, when nginx was asked (ms of Redis TIME, 0: not known), its age in ms
--   returns  how many were left out, no more routes being kept
local time, left_out = redis.call('TIME'), 0
local now, most = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[2])
local width, keep = tonumber(ARGV[3]), tonumber(ARGV[4])
local function held(value)
  local ok, route = pcall(cjson.decode, value or '')
  return ok and type(route) == 'table' and route.seen and route -- a person may have written something else
end
if redis.call('HLEN', KEYS[1]) >= most then
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local route = held(redis.call('HGET', KEYS[1], name)) or {seen = 0}
    if route.seen < now - keep then redis.call('HDEL', KEYS[1], name) end
  end
end
for i = 5, #ARGV, 5 do
  local name, number, asked = ARGV[1] .. ' ' .. ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local seen, route = now - tonumber(ARGV[i + 4]), held(redis.call('HGET', KEYS[1], name))
  if not route and redis.call('HLEN', KEYS[1]) >= most then left_out = left_out + 1 else
    local anew = {instance = ARGV[i + 1], last = number - 1, window = '', seen = 0, lag = -1}
    if not route or route.instance ~= anew.instance then route = anew end
    local ahead, at = number - route.last, #route.window + number - route.last
    if ahead > 0 then
      route.last, route.window = number, (route.window .. ('0'):rep(math.min(ahead - 1, width)) .. '1'):sub(-width)
    elseif at > 0 then route.window = route.window:sub(1, at - 1) .. '1' .. route.window:sub(at + 1) end
    if seen >= route.seen then route.seen, route.lag = seen, asked > 0 and math.max(seen - asked, 0) or -1 end
    redis.call('HSET', KEYS[1], name, cjson.encode(route))
  end
end
redis.call('PEXPIRE', KEYS[1], keep)
return left_out
