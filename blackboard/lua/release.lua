-- own: task, fence. Gives an unfinished task back at once; the attempt does not count.
local t, no, other = held(ARGV[A], ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and (other.state == 'ready' or other.state == 'paused' or other.cxl and other.state == 'cancelled') then
    return 0
  end
  return no
end
if t.cxl then
  finish(ARGV[A], t, 'cancelled', verdict(t, 'cancelled', 'cancelled', 'cancelled while its worker was stopping', true))
  return 1
end
let_go(ARGV[A], t)
t.att = t.att - 1
local r, state = get_run(t.run), 'ready'
if r and r.pz then
  t.state = state
  rest(ARGV[A], t)
  state = t.state
else
  enqueue(ARGV[A], t, true)
end
bump(ARGV[A], t, state, 'task.released', '', false)
return 1
