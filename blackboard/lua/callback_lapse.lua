-- own: task, chance in thousandths. What a task waited for from outside did not come in time, or gave no sign of life: another
-- attempt, or the end, as the rule for it says that came with the wait.
local id = ARGV[A]
local at = redis.call('ZSCORE', WAIT, id)
if not at or tonumber(at) > MS then return 0 end
local t = get(id)
if not t or t.state ~= 'waiting' then return 0 end
local silent = MS < t.cb.till
local rule = silent and t.cb.silent or t.cb.late
local failed = 0
for _, n in pairs(t.rc or {}) do failed = failed + n end
local n = rule.key ~= '' and ((t.rc or {})[rule.key] or 0) + 1 or math.max(1, t.att - failed)
local delay = 0
if rule.first > 0 then delay = math.floor(math.min(rule.cap, rule.first * rule.rate ^ (n - 1)) * tonumber(ARGV[A + 1]) / 1000) end
local message = 'no answer came from outside in time'
if silent then message = 'what it waits for outside gave no sign of life for ' .. t.cb.every / 1000 .. ' s' end
called_back(id, t)
local more, word = false, rule.key ~= '' and 'A retry rule says that none follows.' or ''
if not rule.never then
  more, word = again(id, t, delay, cjson.encode({type = silent and 'callback_silent' or 'callback_timeout', message = message,
    retryable = true}), rule.key ~= '' and rule or nil)
end
if not more then
  if word ~= '' then message = message .. '. ' .. word end
  if silent then
    finish(id, t, 'failed', verdict(t, 'failed', 'callback_silent', message))
  else
    finish(id, t, 'timed_out', verdict(t, 'timed_out', 'callback_timeout', message))
  end
end
return 1
