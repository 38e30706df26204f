-- own: task, fence, status, completion, delay ms, error, and as the last what to tell of it. Waits for another attempt if one is left, else ends the task.
local t, no, other = held(ARGV[A], ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and (other.state == 'delayed' or other.state == 'paused' or other.state == ARGV[A + 2]) then
    return {other.state, 0}
  end
  return no
end
if not again(ARGV[A], t, tonumber(ARGV[A + 4]), ARGV[A + 5]) then finish(ARGV[A], t, ARGV[A + 2], ARGV[A + 3], told(ARGV[#ARGV])) end
return {t.state, 1}
