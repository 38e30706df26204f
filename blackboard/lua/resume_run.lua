-- own: run, by a sweep (1: only when its pause is over), operation, by whom. Everything goes on where it stood, deadlines moved by the
-- time it rested. A copy that comes when the run was paused once more does not end that pause.
-- The lanes of its tasks must be declared, else the reply is which are missing and nothing was done. Replies the state and 1 or 0.
local run = ARGV[A]
local r = get_run(run)
if not r then return refuse('UNKNOWN', 'no run ' .. run .. ' on this board') end
if not r.pz then return {r.state, 0} end
if ARGV[A + 1] == '1' and r.pu > MS or r.ro and r.ro == ARGV[A + 2] then return {'paused', 0} end
local missing = {'lanes'}
for _, id in ipairs(redis.call('SMEMBERS', OPEN)) do
  local t = get(id)
  if t.state == 'paused' and not LANES[t.lane] then missing[#missing + 1] = t.lane end
end
if missing[2] then return missing end
redis.call('ZREM', DUE, 'r:' .. run)     -- a first write that a full server still takes
r.dl = deadline(r)
r.pz, r.pu, r.ro = nil, nil, ARGV[A + 2]
redis.call('ZADD', DUE, n2s(r.dl), 'r:' .. run)
if r.again then redis.call('ZADD', DUE, n2s(MS + r.again), 's:' .. run) end
audit('run.resumed', run, ARGV[A + 3], '', r.tenant)
bump_run(run, r, 'run.resumed', cjson.encode({deadline_ms = r.dl}))
for _, id in ipairs(redis.call('SMEMBERS', OPEN)) do
  local t = get(id)
  if t.state == 'paused' then
    local state, ms = t.was, t.ms
    t.dl = t.dl + MS - t.pz
    if t.rr and t.rr.at then t.rr.at = t.rr.at + MS - t.pz end
    t.was, t.pz, t.ms = nil, nil, nil
    redis.call('ZADD', DUE, n2s(t.cxl and MS or t.dl), 't:' .. id)
    if state == 'delayed' then redis.call('ZADD', WAIT, n2s(MS + ms), id) end
    if state == 'ready' then enqueue(id, t, true) end
    t.state = state
    redis.call('HSET', TASKS, id, cjson.encode(t))
  end
end
return {r.state, 1}
