-- KEYS   12 the log that is being written in place of this one, 13 what was compacted of the scope
-- own: position of the summary there is, or '', its number, first position that can be read as it was from now on, time of it
-- in ms, the new summary, how many operations to forget, these, then units: entry, position of its last fact where all of it
-- goes or '', topic, version of the topic when nothing is left on it or '', how many facts, these. One bounded step: facts that
-- count no more leave the log with what they were found by, and one summary of all that ever did is in it. Replies the
-- summary's position; nothing where somebody else went on, this very call was done, or an entry is no longer what it was.
local NEW, MARK = KEYS[12], KEYS[13]
local at = redis.call('HGET', MARK, 'at') or ''
if at ~= ARGV[2] then return {} end
local ops, i = tonumber(ARGV[7]), 8 + tonumber(ARGV[7])
local gone, units = {}, {}
while ARGV[i] do
  local id, h, n = ARGV[i], head(ARGV[i]), tonumber(ARGV[i + 4])
  if not h or (ARGV[i + 1] ~= '' and (h.last ~= ARGV[i + 1] or live(h) or held(h))) then return {} end
  for k = i + 5, i + 4 + n do
    if ARGV[i + 1] == '' and place(ARGV[k]) >= place(h.pos) then return {} end
    gone[#gone + 1] = ARGV[k]
  end
  units[#units + 1] = {id, h, ARGV[i + 1] ~= '', ARGV[i + 2], ARGV[i + 3]}
  i = i + 5 + n
end
redis.call('HDEL', OPS, '')                -- a first write that a full server still takes: this is what makes room
local id = OWNER .. '/compacted'
local now = redis.call('XADD', LOG, '*', 'type', 'scope.compacted', 'subject', id, 'id', id .. ':' .. ARGV[3], 'data', ARGV[6])
redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'type', 'scope.compacted', 'subject', id, 'id', id .. ':' .. ARGV[3],
  'run', OWNER, 'at', now, 'data', '')
redis.call('HSET', MARK, 'at', now, 'upto', ARGV[4], 'ms', ARGV[5])
if at ~= '' then gone[#gone + 1] = at end
-- From the copy as well, which would bring them back.
for _, one in ipairs(gone) do
  redis.call('XDEL', LOG, one)
  redis.call('XDEL', NEW, one)
end
for k = 8, 7 + ops do redis.call('HDEL', OPS, ARGV[k]) end
for _, unit in ipairs(units) do
  if unit[3] then
    off(unit[1], unit[2])
    redis.call('HDEL', HEADS, unit[1])
  end
  if unit[5] ~= '' and redis.call('HGET', VERS, unit[4]) == unit[5] then redis.call('HDEL', VERS, unit[4]) end
end
return {now}
