-- Needs that capabilities served, and example needs, that changed after a revision, oldest change first: the revision, at most how many.
-- {revision and sum of the lessons, calibration, field, its revision, needs, ...}
local reply = {digits(learnt('rev')) .. ' ' .. digits(learnt('sum')), redis.call('HGET', KEYS[20], 'calibration') or ''}
local found = redis.call('ZRANGEBYSCORE', KEYS[18], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #found, 2 do
  reply[#reply + 1] = found[i]
  reply[#reply + 1] = digits(tonumber(found[i + 1]))
  local kept = string.find(found[i], '|', 1, true) and KEYS[17] or KEYS[22]
  reply[#reply + 1] = redis.call('HGET', kept, found[i]) or ''
end
return reply
