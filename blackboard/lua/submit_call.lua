-- own: run id, tenant, request hash, first characters of the request, run.accepted data, run ms, spec and input of its task.
-- A run without decisions: its one task is on the board with it, and ends it.
local run = ARGV[A]
local reply = settled(run, ARGV[A + 1], ARGV[A + 2])
if reply then return reply end
local s = cjson.decode(ARGV[A + 6])
if not LANES[s.lane] then return refuse('LANE', 'lane ' .. s.lane .. ' was not declared') end
local r = {tenant = ARGV[A + 1], sha = ARGV[A + 2], text = ARGV[A + 3], at = MS, round = 0, n = 1,
  call = s.id, dl = MS + tonumber(ARGV[A + 5]), lanes = {s.lane}}
s.dl = math.min(r.dl, MS + s.ms)
if s.rr then s.rr.at = MS end
redis.call('ZADD', INDEX, n2s(MS), run)
redis.call('ZADD', DUE, n2s(r.dl), 'r:' .. run)
admit(r)
redis.call('HSET', RUNS, run, behind(GOING, r))
emit('run.accepted', run, 1, run, ARGV[A + 4], true)
post(run, r, s, ARGV[A + 7])
return {run, 1}
