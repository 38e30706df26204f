-- Whether a request may carry secrets, once a person was asked: id, ms the question stands, run, task, tenant, what is asked (JSON,
-- not decoded), for the audit the detail (JSON, not decoded) and by whom, most questions kept. Asks where nobody was asked yet.
-- {'waiting' | 'approved' | 'refused' | 'expired', by, reason}
local id, ms, run, task, tenant = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local facts, detail, by, most = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local raw = redis.call('HGET', KEYS[16], id)
if raw then
  local known = cjson.decode(raw)
  if known.state == 'waiting' and NOW >= tonumber(known['until']) then return {'expired', '', ''} end
  return {known.state, known.by, known.reason}
end
local over = {}
local kept = redis.call('HLEN', KEYS[16]) / 2
if kept >= most then
  local all = redis.call('HGETALL', KEYS[16])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 6) ~= 'facts|' and NOW >= tonumber(cjson.decode(all[i + 1])['until']) then over[#over + 1] = all[i] end
  end
  if kept - #over >= most then return refuse('FULL', most .. ' requests wait for a person already; answer those first') end
end
for _, each in ipairs(over) do redis.call('HDEL', KEYS[16], each, 'facts|' .. each) end
redis.call('HSET', KEYS[16], id, cjson.encode({state = 'waiting', asked = digits(NOW), ['until'] = digits(NOW + ms), run = run,
  task = task, tenant = tenant, at = '', by = '', reason = ''}), 'facts|' .. id, facts)
audit('secret.asked', task, '', by, '', detail)
return {'waiting', '', ''}
