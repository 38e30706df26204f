-- Reads the token of an id, or all of them for '': {server milliseconds, id, entry, ...}.
local reply = {digits(NOW)}
if ARGV[1] ~= '' then
  local raw = redis.call('HGET', KEYS[14], ARGV[1])
  if raw then
    reply[2], reply[3] = ARGV[1], raw
  end
  return reply
end
for _, each in ipairs(redis.call('HGETALL', KEYS[14])) do reply[#reply + 1] = each end
return reply
