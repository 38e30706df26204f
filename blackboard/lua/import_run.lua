-- own: run, operation, header, then position, type, subject, id and data of each event. Writes a run that ended elsewhere as
-- history: its header, its place in the index and its log as it was. No task of it is on this board and none will be.
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
for i = A + 3, #ARGV, 5 do
  redis.call('XADD', LOG, ARGV[i], 'type', ARGV[i + 1], 'subject', ARGV[i + 2], 'id', ARGV[i + 3], 'data', ARGV[i + 4])
end
redis.call('ZADD', INDEX, n2s(r.at), run)
redis.call('HSET', RUNS, run, cjson.encode(r))
return 1
