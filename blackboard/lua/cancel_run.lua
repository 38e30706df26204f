-- own: run, reason, grace ms, by whom. Durable when this returns; what is running is told to stop and gets the grace.
-- {state, 1, what OVER says of a run that is over at once}
local r = get_run(ARGV[A])
if not r then return refuse('UNKNOWN', 'no run ' .. ARGV[A] .. ' on this board') end
if not active(r) then return {r.state, 0} end
local left = deadline(r)
r.state = 'cancelling'
r.want, r.word = 'cancelled', 'cancelled'
r.why = ARGV[A + 1]
r.pz, r.pu = nil, nil
redis.call('ZREM', DUE, 'r:' .. ARGV[A])     -- a first write that a full server still takes
redis.call('ZADD', DUE, n2s(math.min(left, MS + tonumber(ARGV[A + 2]))), 'r:' .. ARGV[A])
audit('run.cancelled', ARGV[A], ARGV[A + 3], r.why, r.tenant)
bump_run(ARGV[A], r, 'run.cancelling', cjson.encode({reason = r.why}))
stop_run(ARGV[A], r, false)
return {r.state, 1, unpack(OVER)}
