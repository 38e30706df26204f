-- The pots of some levels at one moment: {today, {field, value, ...}, ...}.
local reply = {n2s(TODAY)}
for i = 1, #ARGV do reply[i + 1] = redis.call('HGETALL', KEYS[3 + i]) end
return reply
