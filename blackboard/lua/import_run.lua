-- own: run, operation, header, how many entries, id, header, member of the index or '' and members of the links of each, how
-- many topics, name and version of each, then position, type, subject, id and data of each event. Writes a run that ended
-- elsewhere as history: its header, its place in the index, its log as it was and what its entries are found by. No task of
-- it is on this board and none will be.
local run = ARGV[A]
local there = get_run(run)
if there then
  if there.op == ARGV[A + 1] then return 0 end
  return refuse('CONFLICT', 'run ' .. run .. ' is on this board already')
end
local r = cjson.decode(ARGV[A + 2])
if not terminal(r) then return refuse('LIVE', 'run ' .. run .. ' is ' .. r.state) end
r.op, r.imported = ARGV[A + 1], MS
redis.call('DEL', LOG)
local HEADS, VERS, BY_TOPIC, LINKS = KEYS[#KEYS - 5], KEYS[#KEYS - 4], KEYS[#KEYS - 2], KEYS[#KEYS - 1]
for _, key in ipairs({HEADS, VERS, BY_TOPIC, LINKS}) do redis.call('DEL', key) end
local at = A + 3
local function following()
  at = at + 1
  return ARGV[at - 1]
end
for _ = 1, tonumber(following()) do
  local id = following()
  redis.call('HSET', HEADS, id, following())
  local member = following()
  if member ~= '' then redis.call('ZADD', BY_TOPIC, 0, member) end
  for _ = 1, tonumber(following()) do redis.call('ZADD', LINKS, 0, following()) end
end
for _ = 1, tonumber(following()) do redis.call('HSET', VERS, following(), following()) end
for i = at, #ARGV, 5 do
  redis.call('XADD', LOG, ARGV[i], 'type', ARGV[i + 1], 'subject', ARGV[i + 2], 'id', ARGV[i + 3], 'data', ARGV[i + 4])
end
redis.call('ZADD', INDEX, n2s(r.at), run)
redis.call('HSET', RUNS, run, cjson.encode(r))
return 1
