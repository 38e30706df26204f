-- own: task, first delay ms, longest delay ms, chance in thousandths. Its lease ended without a word: another attempt, or the
-- end. The lease was a wait already, so the delays are short; a retry rule for lost leases has delays of its own.
local till = redis.call('ZSCORE', LEASE, ARGV[A])
if not till or tonumber(till) > MS then return 0 end
local t = get(ARGV[A])
if not t or t.state ~= 'claimed' then
  redis.call('ZREM', LEASE, ARGV[A])
  return 1
end
local by = t.rr and t.rr.lost
local first, rate, most, n = tonumber(ARGV[A + 1]), 2, tonumber(ARGV[A + 2]), t.att
if by then
  first, rate, most, n = by.first, by.rate, by.cap, ((t.rc or {})[by.key] or 0) + 1
end
local delay = 0
if first > 0 then delay = math.min(most, first * rate ^ (n - 1)) end
if by then delay = delay * tonumber(ARGV[A + 3] or '1000') / 1000 end
delay = math.floor(delay)
local message = 'worker ' .. (t.owner or '?') .. ' stopped answering during attempt ' .. t.att
if t.cxl then
  finish(ARGV[A], t, 'cancelled', verdict(t, 'cancelled', 'cancelled', message .. ' of a cancelled task'))
  return OVER[1] and OVER or 1
end
local more, word = false, 'A retry rule says that none follows.'
if not (by and by.never) then
  more, word = again(ARGV[A], t, delay, cjson.encode({type = 'lease_lost', message = message, retryable = true}), by)
end
if not more then
  if word == '' then word = 'There are no more attempts.' end
  finish(ARGV[A], t, 'failed', verdict(t, 'failed', 'lease_lost', message .. '. ' .. word))
end
return OVER[1] and OVER or 1
