-- KEYS   12 the log that is being written in place of this one
-- own: position after which to go on, '' at the beginning, then position and data of each fact that says something else from
-- now on. Copies a bounded part of the log, each fact to its own position, and with the last part puts the copy in place of
-- the log. Replies how far it got, and 1 when that was all; nothing where somebody else has gone on meanwhile.
local NEW = KEYS[12]
local last = redis.call('XREVRANGE', NEW, '+', '-', 'COUNT', 1)[1]
if (last and last[1] or '') ~= ARGV[2] then return {} end
local put, at, seen, bytes, whole = {}, ARGV[2], 0, 0, false
for i = 3, #ARGV, 2 do put[ARGV[i]] = ARGV[i + 1] end
while not whole and seen < 200 and bytes < 1048576 do
  local page = redis.call('XRANGE', LOG, at == '' and '-' or '(' .. at, '+', 'COUNT', 4)
  for _, entry in ipairs(page) do
    local f = entry[2]
    for i = 1, #f, 2 do
      if f[i] == 'data' then
        f[i + 1] = put[entry[1]] or f[i + 1]
        bytes = bytes + #f[i + 1]
      end
    end
    redis.call('XADD', NEW, entry[1], unpack(f))
    at = entry[1]
    seen = seen + 1
  end
  whole = #page < 4
end
if whole then redis.call('RENAME', NEW, LOG) end
return {at, whole and 1 or 0}
