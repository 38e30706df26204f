-- Lets one process at a time write example needs for a capability: name, who, hash of what they are written from, for how long
-- (ms; 0 ends it). Replies 1 when it may. What was begun from other words counts no more, and who has ended never begins again,
-- so that a call that comes late holds nobody up.
local name, who, contract, hold = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local till, other, from = writer(name)
if hold == 0 then
  if other == who then written(name, who) end
  return {'0'}
end
if not redis.call('HGET', KEYS[7], name) then return {'0'} end
if other == who and till == 0 then return {'0'} end
if other and other ~= who and from == contract and till > NOW then return {'0'} end
redis.call('HSET', KEYS[23], name, table.concat({digits(NOW + hold), who, contract}, '\31'))
return {'1'}
