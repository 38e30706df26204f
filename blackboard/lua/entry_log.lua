-- KEYS   12 what was compacted of the scope
-- own: lower and upper bound as XRANGE has them, how many. Read only, of bounded length: first position that can be read as it
-- was, time of it in ms, and position of the summary, each '' where nothing was compacted; 1 when there is more; then position
-- and fields of each event. One script, so that a page and what it says of the past belong together.
local mark = {}
for i, name in ipairs({'upto', 'ms', 'at'}) do mark[i] = redis.call('HGET', KEYS[12], name) or '' end
local out, from, bytes, most = {mark[1], mark[2], mark[3], 0}, ARGV[2], 0, tonumber(ARGV[4])
while #out - 4 < most do
  local want = math.min(10, most - #out + 4)
  local page = redis.call('XRANGE', LOG, from, ARGV[3], 'COUNT', want)
  for _, event in ipairs(page) do
    out[#out + 1] = event
    for i = 2, #event[2], 2 do bytes = bytes + #event[2][i] end
    from = '(' .. event[1]
  end
  if #page < want then return out end
  if bytes > 1048576 then break end
end
out[4] = 1
return out
