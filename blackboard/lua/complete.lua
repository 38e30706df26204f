-- own: task, fence, status, completion, what to tell of its error. Sent again: same reply, no second effect.
local t, no, other = held(ARGV[A], ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and other.state == ARGV[A + 2] then return {other.ver, 0} end
  return no
end
finish(ARGV[A], t, ARGV[A + 2], ARGV[A + 3], told(ARGV[A + 4]))
return {t.ver, 1}
