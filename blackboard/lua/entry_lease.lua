-- own: entry, fence of the lease, who, as JSON, then 'taken' to have it for good, 'returned' to give it back, or the length of
-- the lease in ms from now on. Only who holds the entry can: a lease that lapsed, or another one, is refused.
local said = known()
if said then return said end
local no = closed()
if no then return no end
local id, fence = ARGV[7], tonumber(ARGV[8])
local h = head(id)
if not h then return refuse('UNKNOWN', 'no entry ' .. id .. ' on this board') end
local by, fenced = author(cjson.decode(ARGV[9]))
if fenced then return fenced end
if ARGV[10] == 'taken' and h.state == 'taken' and h.fence == fence then return {id, n2s(h.ver), h.last, 0} end
if h.fence ~= fence or not held(h) then
  local now = h.state ~= 'live' and 'it is ' .. h.state or h.fence == fence and 'it lapsed' or 'it is over'
  return refuse('LEASE', 'the lease ' .. ARGV[8] .. ' of entry ' .. id .. ' is not held: ' .. now)
end
if ARGV[10] == 'taken' then return leave(id, h, 'taken', {author = by, fence = fence}) end
if ARGV[10] == 'returned' then return lease(id, h, 'returned', by) end
return lease(id, h, 'leased', by, fence, MS + tonumber(ARGV[10]))
