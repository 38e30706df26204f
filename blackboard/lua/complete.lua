-- own: task, fence, status, completion, what to tell of its error, ms and tokens it took. Sent again: same reply, no second
-- effect. Then what _results takes. What a success of a version took is counted, for whoever chooses between capabilities.
local t, no, other = held(ARGV[A], ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and other.state == ARGV[A + 2] then return {other.ver, 0} end
  return no
end
local old = reported and reported(t, A + 6)
if old then return old end
finish(ARGV[A], t, ARGV[A + 2], ARGV[A + 3], told(ARGV[A + 4]))
local ms, tokens = string.match(ARGV[A + 5] or '', '^(%d+) (%d+)$')
if ms and t.version and ARGV[A + 2] == 'succeeded' then
  local subject = 's:' .. t.cap .. '|' .. t.version
  redis.call('HINCRBY', USE, subject .. '|n', 1)
  redis.call('HINCRBY', USE, subject .. '|ms', ms)
  redis.call('HINCRBY', USE, subject .. '|tokens', tokens)
end
return {t.ver, 1, unpack(OVER)}
