-- own: task. Its waiting time is over: ready again. Where it waited for a person, nobody has answered.
local id = ARGV[A]
local at = redis.call('ZSCORE', WAIT, id)
if not at or tonumber(at) > MS then return 0 end
local t = get(id)
redis.call('ZREM', WAIT, id)
if t and t.state == 'delayed' then
  t.nap = nil
  enqueue(id, t)
  if t.ask then
    local question = t.ask.kind == 'question'
    local state = t.ask.otherwise and (question and 'answered' or 'approved') or 'expired'
    local text = question and t.ask.otherwise or ''
    t.ask, t.said = nil, {state = state, by = '', text = text}
    bump(id, t, 'ready', 'approval.answered', cjson.encode({task = id, state = state, by = '', text = text}), true)
  else
    bump(id, t, 'ready', 'task.ready', '', false)
  end
end
return 1
