-- own: who, as JSON, length of a lease in ms or '' to have it for good, then entry and version of each candidate. The first that
-- is still there as the caller saw it is taken, and by nobody else; nothing when there is none, and then the operation may be
-- used again.
local said = known()
if said then return said end
local no = closed()
if no then return no end
local by, fenced = author(cjson.decode(ARGV[7]))
if fenced then return fenced end
for i = 9, #ARGV, 2 do
  local h = head(ARGV[i])
  if h and live(h) and h.ver == tonumber(ARGV[i + 1]) then
    if ARGV[8] == '' then return leave(ARGV[i], h, 'taken', {author = by}) end
    return lease(ARGV[i], h, 'leased', by, h.ver + 1, MS + tonumber(ARGV[8]))
  end
end
return {}
