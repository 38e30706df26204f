-- own: run, reason, ms after which it goes on by itself, operation, by whom. What runs is left to end; nothing else of the run is handed
-- out, and time stands still for it. A copy that comes after the run went on does not stop it again. Replies the state and
-- whether anything was done.
local run = ARGV[A]
local r = get_run(run)
if not r then return refuse('UNKNOWN', 'no run ' .. run .. ' on this board') end
if not active(r) then return {r.state, 0} end
if r.pz then return {'paused', 0} end
if r.po and r.po == ARGV[A + 3] then return {r.state, 0} end
redis.call('ZREM', DUE, 'r:' .. run)     -- a first write that a full server still takes
r.pz, r.pu, r.po = MS, MS + tonumber(ARGV[A + 2]), ARGV[A + 3]
redis.call('ZADD', DUE, n2s(r.pu), 'r:' .. run)
if r.again then redis.call('ZREM', DUE, 's:' .. run) end
for _, id in ipairs(redis.call('SMEMBERS', OPEN)) do
  local t = get(id)
  if t.state == 'ready' or t.state == 'delayed' or t.state == 'blocked' then
    local at = t.state == 'delayed' and redis.call('ZSCORE', WAIT, id)
    rest(id, t, at and math.max(0, tonumber(at) - MS))
    redis.call('HSET', TASKS, id, cjson.encode(t))
  end
end
audit('run.paused', run, ARGV[A + 4], ARGV[A + 1], r.tenant)
bump_run(run, r, 'run.paused', cjson.encode({reason = ARGV[A + 1], until_ms = r.pu}))
return {'paused', 1}
