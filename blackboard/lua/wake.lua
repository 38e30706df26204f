-- own: task. Its waiting time is over: ready again.
local at = redis.call('ZSCORE', WAIT, ARGV[A])
if not at or tonumber(at) > MS then return 0 end
local t = get(ARGV[A])
redis.call('ZREM', WAIT, ARGV[A])
if t and t.state == 'delayed' then
  t.nap = nil
  enqueue(ARGV[A], t)
  bump(ARGV[A], t, 'ready', 'task.ready', '', false)
end
return 1
