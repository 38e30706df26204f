-- own: task. Its waiting time is over: ready again. Where it waited for a person, nobody has answered.
local at = redis.call('ZSCORE', WAIT, ARGV[A])
if not at or tonumber(at) > MS then return 0 end
local t = get(ARGV[A])
redis.call('ZREM', WAIT, ARGV[A])
if t and t.state == 'delayed' then
  t.nap = nil
  enqueue(ARGV[A], t)
  if t.ask then
    local question = t.ask.kind == 'question'
    local state = t.ask.otherwise and (question and 'answered' or 'approved') or 'expired'
    local text = question and t.ask.otherwise or ''
    t.ask, t.said = nil, {state = state, by = '', text = text}
    bump(ARGV[A], t, 'ready', 'approval.answered', cjson.encode({task = ARGV[A], state = state, by = '', text = text}), true)
  else
    bump(ARGV[A], t, 'ready', 'task.ready', '', false)
  end
end
return 1
