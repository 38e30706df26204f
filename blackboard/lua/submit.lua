-- own: run id, tenant, request hash, first characters of the request, run.accepted data, run ms, step ms, step attempts, then
-- what processes of an earlier version do not send: terms of its agenda (c: most picked at a time, hop: deepest chain, rep: how
-- often a trigger may stand in a chain of its own), as JSON, or ''.
local run = ARGV[A]
local reply = settled(run, ARGV[A + 1], ARGV[A + 2])
if reply then return reply end
local deadline = MS + tonumber(ARGV[A + 5])
local r = {tenant = ARGV[A + 1], sha = ARGV[A + 2], text = ARGV[A + 3], state = 'queued', at = MS, ver = 0, round = 0, n = 0,
  dl = deadline, sats = tonumber(ARGV[A + 6]), smax = tonumber(ARGV[A + 7])}
if (ARGV[A + 8] or '') ~= '' then r.ag = cjson.decode(ARGV[A + 8]) end
redis.call('ZADD', INDEX, n2s(MS), run)
redis.call('ZADD', DUE, n2s(deadline), 'r:' .. run)
admit(r)
bump_run(run, r, 'run.accepted', ARGV[A + 4])
post_step(run, r)
return {run, 1}
