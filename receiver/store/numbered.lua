-- Number lines of the same text, which have no request id: the n-th that one receiver tells is the n-th of every other.
--   key       pinban:copies:{network}:rule   hash "id receiver" -> how many arrivals are forgotten, then the later ones
--   id        made from the text
--   arrival   "receiver.n", the same when the line is told again; most: arrivals kept, of one text and of some texts
--   ttl       how long the numbers are remembered, ms
--   returns   "id.n"
local function numbered(key, id, arrival, most, ttl)
  local receiver, this = string.match(arrival, '^([^.]*)%.?(.*)$')
  local field = id .. ' ' .. receiver
  local gone, known = string.match(redis.call('HGET', key, field) or '', '^(%d+) (.*)$')
  local n, kept = tonumber(gone) or 0, {}
  for each in string.gmatch(known or '', '%S+') do
    kept[#kept + 1] = each
    if each == this then return id .. '.' .. n + #kept end
  end
  kept[#kept + 1] = this
  local number = id .. '.' .. n + #kept
  if #kept > most then n = n + 1; table.remove(kept, 1) end
  if redis.call('HLEN', key) > 4 * most then redis.call('DEL', key) end
  redis.call('HSET', key, field, n .. ' ' .. table.concat(kept, ' '))
  redis.call('PEXPIRE', key, ttl)
  return number
end
