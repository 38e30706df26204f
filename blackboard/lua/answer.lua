-- own: task, operation, 'approved', 'refused' or 'answered', by whom, the answer or why, label of whoever brings in new words ('' for
-- none), input instead of what was asked about ('' for none). A person's answer: the task is ready again, and whoever works on it
-- finds what was said. Exactly one counts.
local id, op, state, by, text, label, input = ARGV[A], ARGV[A + 1], ARGV[A + 2], ARGV[A + 3], ARGV[A + 4], ARGV[A + 5], ARGV[A + 6]
local t = get(id)
if not t then return refuse('UNKNOWN', 'no task ' .. id .. ' on this board') end
local said = t.said
if said then
  if said.op == op then return 0 end
  if not said.op then return refuse('EXPIRED', id .. ' was not answered in time') end
  return refuse('CONFLICT', id .. ' was ' .. said.state .. ' by ' .. said.by .. ' already')
end
if terminal(t) or t.cxl then
  return refuse('OVER', id .. ' was not waiting for an answer any more: it ' .. (t.cxl and 'was stopped' or 'ended as ' .. t.state))
end
local ask = t.ask
if not ask then return refuse('UNKNOWN', id .. ' waits for no person') end
if state ~= 'refused' and (ask.kind == 'question') ~= (state == 'answered') then
  return refuse('KIND', id .. ' asks for ' .. (ask.kind == 'question' and 'an answer' or 'approval'))
end
local left = t.state == 'paused' and t.ms or tonumber(redis.call('ZSCORE', WAIT, id)) - MS
if left <= 0 then return refuse('EXPIRED', id .. ' was not answered in time') end
local function among(names)
  for _, one in ipairs(names or {}) do
    if one == by then return true end
  end
end
if ask.by and not among(ask.by) and not (among(ask.delegate) and left <= ask.ms - ask.dms) then
  return refuse('NOT_ASKED', by .. ' may not answer ' .. id .. '; it is for ' .. table.concat(ask.by, ', ')
    .. (ask.delegate and ', and later for ' .. table.concat(ask.delegate, ', ') or ''))
end
if not LANES[t.lane] then return refuse('LANE', 'lane ' .. t.lane .. ' was not declared') end
redis.call('ZREM', WAIT, id)
t.ask, t.said = nil, {state = state, by = by, text = text, op = op}
if label ~= '' then
  t.src = t.src or {}
  t.src[#t.src + 1] = label
end
if input ~= '' then redis.call('HSET', DATA, id, input) end
stand_still(id, t, get_run(t.run), -left)
if t.state == 'paused' then
  t.was, t.ms = 'ready', nil
else
  t.state = 'ready'
  enqueue(id, t, true)
end
audit('task.' .. state, id, by, text, t.tenant)
local told = {task = id, state = state, by = by, text = text}
bump(id, t, t.state, 'approval.answered', input == '' and cjson.encode(told) or splice('input', input, told), true)
return 1
