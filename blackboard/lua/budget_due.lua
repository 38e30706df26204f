-- Reservations whose lease is over, as {reservation, level...}; forgets those that ended long ago. ARGV how many at most.
local rows = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', n2s(NOW), 'LIMIT', 0, ARGV[1])) do
  local h = hold(id)
  if h and h.s == 'held' then
    local row = {id}
    for _, l in ipairs(h.l) do row[#row + 1] = l.n end
    rows[#rows + 1] = row
  else
    redis.call('ZREM', DUE, id)
    redis.call('HDEL', HOLDS, id)
  end
end
return rows
