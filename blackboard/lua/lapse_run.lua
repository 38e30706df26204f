-- own: run. Its deadline passed, or the time given to a cancellation: everything open ends now. Replies how the
-- run ended, how many ms after its acceptance, and of which kind it was. Or its model is to be asked though work goes on: the next
-- step comes, unless there is one.
local at = redis.call('ZSCORE', DUE, 'r:' .. ARGV[A])
if not at or tonumber(at) > MS then
  local ask = redis.call('ZSCORE', DUE, 's:' .. ARGV[A])
  if not ask or tonumber(ask) > MS then return 0 end
  redis.call('ZREM', DUE, 's:' .. ARGV[A])
  local r = get_run(ARGV[A])
  if r and active(r) and not decided_on(ARGV[A], r) then
    redis.call('HSET', TURNS, '#', '0-0')  -- what ended before is read with the step
    post_step(ARGV[A], r, '"stalled"')
  end
  return 1
end
local r = get_run(ARGV[A])
if r and r.pz then return 0 end      -- this was the end of its pause
redis.call('ZREM', DUE, 'r:' .. ARGV[A])
if not r or not (active(r) or r.state == 'cancelling') then return 1 end
if active(r) then
  r.state = 'cancelling'
  r.want, r.word = 'timed_out', 'deadline'
  r.why = 'the deadline of the run passed in round ' .. r.round
end
stop_run(ARGV[A], r, true)
return OVER
