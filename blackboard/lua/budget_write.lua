-- Gives a level a budget, or takes it away when every amount is ''. What was spent and reserved stays. ARGV level, amounts.
local given = false
for u, unit in ipairs(UNITS) do
  local most = ARGV[1 + u]
  if most == '' then
    redis.call('HDEL', KEYS[4], 'max:' .. unit)
  else
    given = true
    redis.call('HSET', KEYS[4], 'max:' .. unit, most)
  end
end
if given then
  redis.call('SADD', LEVELS, ARGV[1])
else
  redis.call('SREM', LEVELS, ARGV[1])
end
return 1
