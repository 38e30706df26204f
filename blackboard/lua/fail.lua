-- own: task, fence, status, completion, delay ms, error, then what processes of an earlier version do not send: ms the other
-- side asked to wait, usage of the attempt, key of the retry rule ('' none), its most failures, its age in ms ('' none), what to
-- tell of the error, and what _results takes.
-- Waits for another attempt if one is left, else ends the task. The completion ends with its error's message.
local t, no, other = held(ARGV[A], ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and (other.state == 'delayed' or other.state == 'paused' or other.state == ARGV[A + 2]) then
    return {other.state, 0}
  end
  return no
end
local old = reported and reported(t, A + 12)
if old then return old end
local why = ARGV[A + 5]
if ARGV[A + 7] then why = why .. ',"usage":' .. ARGV[A + 7] end
local by
if (ARGV[A + 8] or '') ~= '' then
  by = {key = ARGV[A + 8], max = tonumber(ARGV[A + 9]), age = tonumber(ARGV[A + 10])}
end
local delay = math.max(tonumber(ARGV[A + 4]), tonumber(ARGV[A + 6] or '0'))
again_or_end(ARGV[A], t, ARGV[A + 2], ARGV[A + 3], told(ARGV[A + 11]), delay, why, by)
return {t.state, 1, unpack(OVER)}
