-- Reads the keys a board trusts or trusted: {server milliseconds, key id, entry, ...}.
local reply = {digits(NOW)}
local all = redis.call('HGETALL', KEYS[12])
for i = 1, #all do reply[#reply + 1] = all[i] end
return reply
