-- own: task, first delay ms, longest delay ms. Its lease ended without a word: another attempt, or the end.
local till = redis.call('ZSCORE', LEASE, ARGV[A])
if not till or tonumber(till) > MS then return 0 end
local t = get(ARGV[A])
if not t or t.state ~= 'claimed' then
  redis.call('ZREM', LEASE, ARGV[A])
  return 1
end
local delay = math.floor(math.min(tonumber(ARGV[A + 2]), tonumber(ARGV[A + 1]) * 2 ^ (t.att - 1)))
local message = 'worker ' .. (t.owner or '?') .. ' stopped answering during attempt ' .. t.att
if t.cxl then
  finish(ARGV[A], t, 'cancelled', verdict(t, 'cancelled', 'cancelled', message .. ' of a cancelled task'))
elseif not again(ARGV[A], t, delay, cjson.encode({type = 'lease_lost', message = message, retryable = true})) then
  finish(ARGV[A], t, 'failed', verdict(t, 'failed', 'lease_lost', message .. '; there are no more attempts, or no more time'))
end
return 1
