-- own: run, reason, grace ms. Durable when this returns; what is running is told to stop and gets the grace.
local r = get_run(ARGV[A])
if not r then return refuse('UNKNOWN', 'no run ' .. ARGV[A] .. ' on this board') end
if not active(r) then return {r.state, 0} end
r.state = 'cancelling'
r.want = 'cancelled'
r.why = ARGV[A + 1]
redis.call('ZADD', DUE, n2s(MS + tonumber(ARGV[A + 2])), 'r:' .. ARGV[A])
bump_run(ARGV[A], r, 'run.cancelling', cjson.encode({reason = r.why}))
stop_run(ARGV[A], r, false)
return {r.state, 1}
