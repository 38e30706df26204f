-- What processes say of peers: {server milliseconds, peer|process, entry, ...}.
local reply = {digits(NOW)}
for _, each in ipairs(redis.call('HGETALL', KEYS[21])) do reply[#reply + 1] = each end
return reply
