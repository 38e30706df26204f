-- own: how many. Read only: the server's time, in how many ms something will be due (at most 60 s), then name,
-- definition and state of each schedule that is due.
local out = {n2s(MS), '60000'}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', n2s(MS), 'LIMIT', 0, ARGV[1])) do
  out[#out + 1] = name
  out[#out + 1] = redis.call('HGET', DEFS, name)
  out[#out + 1] = redis.call('HGET', STATE, name)
end
local head = redis.call('ZRANGEBYSCORE', DUE, '(' .. n2s(MS), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if head[2] then out[2] = n2s(math.min(60000, tonumber(head[2]) - MS)) end
return out
