-- What changed about the active versions since a revision the caller holds, and what marks the state of what was learnt.
-- {revision, mark, 'same'} | {revision, mark, 'delta', name, sha or '', ...} | {revision, mark, 'full', name, sha, ...}
local held, most = ARGV[1], tonumber(ARGV[2])
local revision = redis.call('GET', KEYS[1]) or '0'
local mark = table.concat({digits(learnt('rev')), digits(learnt('sum')), digits(learnt('calibration_rev'))}, ' ')
if held == revision then return {revision, mark, 'same'} end

-- A revision that is not in the log belongs to a past the server lost; then only the whole list is right.
local entries = {}
local there = held ~= '' and held ~= '0' and redis.call('XRANGE', KEYS[6], held .. '-0', held .. '-9999', 'COUNT', 1)
if there and #there > 0 and tonumber(held) < tonumber(revision) then
  entries = redis.call('XRANGE', KEYS[6], digits(tonumber(held) + 1) .. '-0', '+', 'COUNT', most + 1)
end
local reply = {revision, mark}
if #entries == 0 or #entries > most then
  reply[3] = 'full'
  local all = redis.call('HGETALL', KEYS[5])
  for i = 1, #all do reply[#reply + 1] = all[i] end
  return reply
end
reply[3] = 'delta'
local seen = {}
for _, entry in ipairs(entries) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'name' and not seen[fields[i + 1]] then
      seen[fields[i + 1]] = true
      reply[#reply + 1] = fields[i + 1]
      reply[#reply + 1] = redis.call('HGET', KEYS[5], fields[i + 1]) or ''
    end
  end
end
return reply
