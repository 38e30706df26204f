-- Reads all requests that would carry secrets, or the one of an id: {server milliseconds, id, entry, what was asked, ...}.
local reply = {digits(NOW)}
local function add(id, raw)
  local at = #reply
  reply[at + 1], reply[at + 2] = id, raw
  reply[at + 3] = redis.call('HGET', KEYS[16], 'facts|' .. id) or ''
end
if ARGV[1] ~= '' then
  local raw = redis.call('HGET', KEYS[16], ARGV[1])
  if raw then add(ARGV[1], raw) end
  return reply
end
local all = redis.call('HGETALL', KEYS[16])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 6) ~= 'facts|' then add(all[i], all[i + 1]) end
end
return reply
