-- own: lease ms, then task id and fence of every claim held. Replies id, fence, word for those that have to know: lost
-- (stop, it is not yours) or cancel (stop and report). The first write is one a full server still takes.
redis.call('ZREM', LEASE, '')
local out = {}
for i = A + 1, #ARGV, 2 do
  local t = get(ARGV[i])
  if t and t.state == 'claimed' and t.fence == ARGV[i + 1] then
    redis.call('ZADD', LEASE, n2s(MS + tonumber(ARGV[A])), ARGV[i])
    if t.cxl then
      out[#out + 1] = ARGV[i]
      out[#out + 1] = ARGV[i + 1]
      out[#out + 1] = 'cancel'
    end
  else
    out[#out + 1] = ARGV[i]
    out[#out + 1] = ARGV[i + 1]
    out[#out + 1] = 'lost'
  end
end
return out
