-- own: task, fence. Gives an unfinished task back at once; the attempt does not count, but the claim does: a task that is only
-- ever given back ends as poison.
-- Claims after which a task is not given back again: workers that restart may give back a few without fault of the task.
local MOST, PER_ATTEMPT = 10, 3
local t, no, other = held(ARGV[A], ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and (other.state == 'ready' or other.state == 'paused' or other.cxl and other.state == 'cancelled'
    or other.poison and other.state == 'failed') then
    return 0
  end
  return no
end
if t.cxl then
  finish(ARGV[A], t, 'cancelled', verdict(t, 'cancelled', 'cancelled', 'cancelled while its worker was stopping', true))
  return OVER[1] and OVER or 1
end
t.gave = t.gave or {}
if #t.gave == 3 then table.remove(t.gave, 1) end
t.gave[#t.gave + 1] = t.owner
local claims = t.clm or 0
if claims >= math.max(MOST, PER_ATTEMPT * t.max) then
  t.poison, t.att = 1, t.att - 1
  finish(ARGV[A], t, 'failed', verdict(t, 'failed', 'poison', 'it was claimed ' .. claims .. ' times, failed ' .. t.att
    .. ' times, and was given back the others, last by ' .. table.concat(t.gave, ', '), true))
  return OVER[1] and OVER or 1
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
