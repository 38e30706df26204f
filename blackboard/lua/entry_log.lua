-- KEYS   12 what was compacted of the scope
-- own: lower and upper bound as XRANGE has them, how many. Read only, of bounded length: first position that can be read as it
-- was, time of it in ms, and position of the summary, each '' where nothing was compacted; 1 when there is more; then of each
-- event its position, how many texts follow, and these: names and values of its fields. A list in a list would be sent by a
-- call of the system of its own. One script, so that a page and what it says of the past belong together.
local mark = {}
for i, name in ipairs({'upto', 'ms', 'at'}) do mark[i] = redis.call('HGET', KEYS[12], name) or '' end
local out, from, bytes, seen, most = {mark[1], mark[2], mark[3], 0}, ARGV[2], 0, 0, tonumber(ARGV[4])
while seen < most do
  local want = math.min(10, most - seen)
  local page = redis.call('XRANGE', LOG, from, ARGV[3], 'COUNT', want)
  for _, event in ipairs(page) do
    local fields, at = event[2], #out
    out[at + 1], out[at + 2] = event[1], #fields
    for i = 1, #fields do
      out[at + 2 + i] = fields[i]
      bytes = bytes + #fields[i]
    end
    from = '(' .. event[1]
  end
  seen = seen + #page
  if #page < want then return out end
  if bytes > 1048576 then break end
end
out[4] = 1
return out
