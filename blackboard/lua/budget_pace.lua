-- Gives a level a pace for its reservations, or takes it away. ARGV at a time, in a second, in bursts of, tokens in a minute;
-- '' for no bound. Tokens that were taken stay taken.
local before = pot(KEYS[4])
for i, field in ipairs({'pace:c', 'pace:r', 'pace:b', 'pace:t'}) do
  if ARGV[i] == '' then redis.call('HDEL', KEYS[4], field) else redis.call('HSET', KEYS[4], field, ARGV[i]) end
end
redis.call('HDEL', KEYS[4], 'full')
local owed = tonumber(before.refilled or '0') - US
if before['pace:t'] and ARGV[4] ~= '' and owed > 0 then
  redis.call('HSET', KEYS[4], 'refilled', n2s(US + math.ceil(owed * tonumber(before['pace:t']) / tonumber(ARGV[4]))))
end
for field in pairs(before) do
  if ARGV[4] == '' and string.sub(field, 1, 2) == 'w:' then redis.call('HDEL', KEYS[4], field) end
end
return 1
