-- A process says of a peer: it answers me ('up'), it does not ('down'), or that it serves it no more ('gone').
-- peer, process, state, ms this holds, reason, number of tools. {'1' when another process reaches the peer}. The same again: the same.
local peer, process, state, ms, reason, tools = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local LONG_GONE = 86400000
local field = peer .. '|' .. process
local elsewhere, stale, since = '0', {}, digits(NOW)
local all = redis.call('HGETALL', KEYS[21])
for i = 1, #all, 2 do
  local entry = cjson.decode(all[i + 1])
  local holds = tonumber(entry['until']) > NOW
  if all[i] == field then
    if entry.state == state and holds then since = entry.since end
  elseif holds and entry.state == 'up' and string.sub(all[i], 1, #peer + 1) == peer .. '|' then
    elsewhere = '1'
  elseif tonumber(entry['until']) + LONG_GONE < NOW then
    stale[#stale + 1] = all[i]
  end
end
for _, each in ipairs(stale) do redis.call('HDEL', KEYS[21], each) end
if state == 'gone' then
  redis.call('HDEL', KEYS[21], field)
else
  redis.call('HSET', KEYS[21], field, cjson.encode({state = state, reason = reason, tools = tools, since = since,
    ['until'] = digits(NOW + tonumber(ms))}))
end
return {elsewhere}
