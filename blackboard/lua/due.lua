-- own: how many of each, expire leases too (1 or 0). Read only: what is over, with the lanes and the run its script needs;
-- the last row says in how many ms something will be.
-- Anyone may act on the reply, any number at once: each of those scripts looks again.
local out = {}
local function row(kind, id, t)
  local e = {kind, id, t.run, t.lane}
  for _, l in ipairs(t.olanes or {}) do e[#e + 1] = l end
  out[#out + 1] = e
end
local limit = ARGV[A]
-- Deadlines first: where a lease ended too, what is over is the time, and a run that is over posts no further step.
for _, m in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', n2s(MS), 'LIMIT', 0, limit)) do
  local id = string.sub(m, 3)
  if string.sub(m, 1, 2) == 's:' then
    out[#out + 1] = {'lapse_run', id, id}
  elseif string.sub(m, 1, 2) == 'r:' then
    local r = get_run(id)
    local e = {r and r.pz and 'resume_run' or 'lapse_run', id, id}
    for _, l in ipairs(r and r.pz and r.lanes or {}) do e[#e + 1] = l end
    out[#out + 1] = e
  else
    local t = get(id)
    if t then row('lapse', id, t) end
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', WAIT, '-inf', n2s(MS), 'LIMIT', 0, limit)) do
  local t = get(id)
  if t then row(t.state == 'waiting' and 'callback_lapse' or 'wake', id, t) end
end
if ARGV[A + 1] == '1' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASE, '-inf', n2s(MS), 'LIMIT', 0, limit)) do
    local t = get(id)
    if t then row('expire', id, t) end
  end
end
local next = 60000
for _, k in ipairs({WAIT, LEASE, DUE}) do
  local head = redis.call('ZRANGE', k, 0, 0, 'WITHSCORES')
  if head[2] and (k ~= LEASE or ARGV[A + 1] == '1') then next = math.min(next, math.max(0, tonumber(head[2]) - MS)) end
end
out[#out + 1] = {'next', n2s(next)}
return out
