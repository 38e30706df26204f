-- own: subject, its quota ('' takes it away). What goes on now is counted anew, so that the counts are right from here on.
-- Replies the attempts and the runs that are counted.
local subject, given = ARGV[A], ARGV[A + 1]
local q = given ~= '' and cjson.decode(given) or {}
local kind, name = string.match(subject, '^(%w+):?(.*)$')
local function without(held)
  local rest = {}
  for _, other in ipairs(held or {}) do
    if other ~= subject then rest[#rest + 1] = other end
  end
  return rest
end
local function held(x, mine, counted)
  local rest = without(x.held)
  if mine and counted then rest[#rest + 1] = subject end
  x.held = rest[1] and rest or nil
end
local attempts, runs = 0, 0
for _, id in ipairs(redis.call('ZRANGE', LEASE, 0, -1)) do
  local t = get(id)
  if t and t.state == 'claimed' then
    local mine = kind == 'board' or kind == 'tenant' and t.tenant == name or kind == 'capability' and t.cap == name
    held(t, mine, q.c)
    if mine and q.c then attempts = attempts + 1 end
    redis.call('HSET', TASKS, id, cjson.encode(t))
  end
end
for _, m in ipairs(redis.call('ZRANGE', DUE, 0, -1)) do
  local run = string.sub(m, 1, 2) == 'r:' and string.sub(m, 3)
  local r = run and get_run(run)
  if r and (active(r) or r.state == 'cancelling') then
    local mine = kind == 'board' or kind == 'tenant' and r.tenant == name
    held(r, mine, q.o)
    if mine and q.o then runs = runs + 1 end
    redis.call('HSET', RUNS, run, cjson.encode(r))
  end
end
for _, field in ipairs({'n:', 'o:', 't:', 'u:', 'd:'}) do redis.call('HDEL', USE, field .. subject) end
if q.c then redis.call('HSET', USE, 'n:' .. subject, n2s(attempts)) end
if q.o then redis.call('HSET', USE, 'o:' .. subject, n2s(runs)) end
if given == '' then redis.call('HDEL', QUOTAS, subject) else redis.call('HSET', QUOTAS, subject, given) end
return {attempts, runs}
