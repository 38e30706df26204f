-- own: task. Its deadline passed: it ends now, whoever holds it.
local at = redis.call('ZSCORE', DUE, 't:' .. ARGV[A])
if not at or tonumber(at) > MS then return 0 end
local t = get(ARGV[A])
if not t or terminal(t) then
  redis.call('ZREM', DUE, 't:' .. ARGV[A])
  return 1
end
if t.word then
  local late = t.state == 'claimed' and '; its worker did not say in time that it stopped' or ''
  finish(ARGV[A], t, 'cancelled', verdict(t, 'cancelled', 'cancelled', t.word .. late))
  return OVER[1] and OVER or 1
end
finish(ARGV[A], t, 'timed_out', verdict(t, 'timed_out', 'deadline', 'its deadline passed while it was ' .. t.state))
return OVER[1] and OVER or 1
