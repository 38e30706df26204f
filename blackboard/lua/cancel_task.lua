-- own: task, reason, grace ms, by whom. Durable when this returns: what waits ends at once, a running attempt is told and gets the grace.
-- Replies the state and whether anything was done.
local t = get(ARGV[A])
if not t then return refuse('UNKNOWN', 'no task ' .. ARGV[A] .. ' on this board') end
if terminal(t) then return {t.state, 0} end
if deciding(t) then return refuse('STEP', ARGV[A] .. ' is a decision of its run; cancel the run') end
if t.cxl then return {'cancelling', 0} end
if t.state ~= 'claimed' then
  redis.call('ZREM', DUE, 't:' .. ARGV[A])     -- a first write that a full server still takes
  audit('task.cancelled', ARGV[A], ARGV[A + 3], ARGV[A + 1], t.tenant)
  finish(ARGV[A], t, 'cancelled', verdict(t, 'cancelled', 'cancelled', ARGV[A + 1]))
  return {'cancelled', 1}
end
redis.call('ZREM', DUE, 't:' .. ARGV[A])     -- a first write that a full server still takes
redis.call('ZADD', DUE, n2s(math.min(t.dl, MS + tonumber(ARGV[A + 2]))), 't:' .. ARGV[A])
audit('task.cancelled', ARGV[A], ARGV[A + 3], ARGV[A + 1], t.tenant)
t.cxl, t.word = 1, ARGV[A + 1]
bump(ARGV[A], t, 'claimed', 'task.cancelling', cjson.encode({reason = ARGV[A + 1]}), true)
return {'cancelling', 1}
