-- own: name, or '' for all. Read only: the server's time, then name, definition and state of each.
local out = {n2s(MS)}
if ARGV[1] ~= '' then
  local def = redis.call('HGET', DEFS, ARGV[1])
  if def then
    out[2], out[3], out[4] = ARGV[1], def, redis.call('HGET', STATE, ARGV[1])
  end
  return out
end
local defs = redis.call('HGETALL', DEFS)
for i = 1, #defs, 2 do
  out[#out + 1] = defs[i]
  out[#out + 1] = defs[i + 1]
  out[#out + 1] = redis.call('HGET', STATE, defs[i])
end
return out
