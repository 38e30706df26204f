-- own: where to begin in the lane's agenda, how many, then tenants. Drops members of the agenda whose task is no longer
-- ready, and tenants left without any. While nobody waits in the lane there is nothing to be fair about: then the virtual
-- times of the tenants named are forgotten. Replies how many were dropped and where to go on ('' at the end).
local name = ARGV[2]
local lane = LANES[name]
local dropped, tenants = 0, {}
local page = redis.call('ZRANGEBYLEX', lane.r, ARGV[A], '+', 'LIMIT', 0, ARGV[A + 1])
for _, member in ipairs(page) do
  local t = get(string.match(member, '[^%z]*$'))
  if not t or t.state ~= 'ready' then
    redis.call('ZREM', lane.r, member)
    dropped = dropped + 1
    tenants[string.match(member, '^[^%z\1]*')] = true
  end
end
for tenant in pairs(tenants) do
  if not redis.call('ZRANGEBYLEX', lane.r, '[' .. tenant .. '\0', '(' .. tenant .. '\2', 'LIMIT', 0, 1)[1] then
    redis.call('ZREM', lane.q, tenant)
  end
end
if not redis.call('ZRANGE', lane.q, 0, 0)[1] then
  for i = A + 2, #ARGV do dropped = dropped + redis.call('HDEL', VT, name .. ':' .. ARGV[i]) end
end
return {dropped, #page == tonumber(ARGV[A + 1]) and '(' .. page[#page] or ''}
