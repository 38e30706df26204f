-- own: run id, tenant, request hash, first characters of the request, run.accepted data, run ms, step ms, step attempts
local run = ARGV[A]
local known = get_run(run)
if known then
  if known.sha ~= ARGV[A + 2] then
    return refuse('CONFLICT', 'this idempotency key already belongs to run ' .. run .. ' with a different request')
  end
  return {run, 0}
end
local no = full(ARGV[A + 1])
if no then return no end
local deadline = MS + tonumber(ARGV[A + 5])
local r = {tenant = ARGV[A + 1], sha = ARGV[A + 2], text = ARGV[A + 3], state = 'queued', at = MS, ver = 0, round = 0, n = 0,
  dl = deadline, sats = tonumber(ARGV[A + 6]), smax = tonumber(ARGV[A + 7])}
redis.call('ZADD', INDEX, n2s(MS), run)
redis.call('ZADD', DUE, n2s(deadline), 'r:' .. run)
admit(r)
bump_run(run, r, 'run.accepted', ARGV[A + 4])
post_step(run, r)
return {run, 1}
