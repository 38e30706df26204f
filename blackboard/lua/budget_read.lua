-- The pots of some levels at one moment: {today, now in us, {field, value, ...}, ...}.
local reply = {n2s(TODAY), n2s(US)}
for i = 1, #ARGV do reply[i + 2] = redis.call('HGETALL', KEYS[3 + i]) end
return reply
