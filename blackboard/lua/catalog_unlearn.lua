-- Forgets needs that capabilities served: those of a run, or ('' for the run) all of the fields that follow.
-- Replies how many fields changed.
local run = ARGV[1]
local changed = 0
if run == '' then
  for i = 2, #ARGV do
    if teach(ARGV[i], {}) then changed = changed + 1 end
  end
  return {digits(changed)}
end
local fields = redis.call('HGET', KEYS[19], run)
if not fields then return {digits(0)} end
-- The removal comes first: a server that is full lets a script that starts with it run to its end.
redis.call('HDEL', KEYS[19], run)
for field in string.gmatch(fields, '[^\30]+') do
  local kept = {}
  for _, one in ipairs(lessons(field)) do
    if one.run ~= run then kept[#kept + 1] = one end
  end
  if teach(field, kept) then changed = changed + 1 end
end
return {digits(changed)}
