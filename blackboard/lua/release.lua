-- own: task, fence. Gives an unfinished task back at once; the attempt does not count.
local t, no, other = held(ARGV[A], ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and (other.state == 'ready' or other.cxl and other.state == 'cancelled') then
    return 0
  end
  return no
end
redis.call('ZREM', LEASE, ARGV[A])
if t.cxl then
  finish(ARGV[A], t, 'cancelled', verdict(t, 'cancelled', 'cancelled', 'cancelled while its worker was stopping'))
  return 1
end
t.att = t.att - 1
bump(ARGV[A], t, 'ready', 'task.released', '', false)
enqueue(ARGV[A], t)
return 1
