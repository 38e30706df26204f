-- own: step task, fence, round.planned data, final status ('' goes on), run.completed data, number of tasks, then spec and
-- input of each; of a spec with entries it was made from, seen is the position at which they were read. Then, where the run waits
-- for something to be written: until when (ms), and how many facts about entries the decision knew; '-' where the open requests are
-- to be looked at while the tasks go on, as they are where it waits, '' where not. Then what is held back waits for, as JSON ('' where
-- nobody says): seen (position at which the decision read the log), on (names, each with ids of tasks that were posted before; what
-- is posted here says its names itself) and off (names that nothing waits by any more); where the model is asked though work goes
-- on, again (ms after which it is), stop (tasks that are stopped, each with why) and rest (why what goes on is, where the run ends).
-- Conversation, plan, tasks, barrier and events of one arbiter decision: one step. Replies 2 where the run ends once what goes on
-- has stopped.
local id = ARGV[A]
local t, no, other = held(id, ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and other.state == 'succeeded' then
    return redis.call('HEXISTS', TURNS, '!') == 1 and 2 or 0
  end
  return no
end
local r = get_run(t.run)
if not r or not active(r) then return refuse('FENCED', 'run ' .. t.run .. ' is no longer going on') end
local n = tonumber(ARGV[A + 5])
local said = ARGV[A + 7 + 2 * n] or ''
said = said ~= '' and cjson.decode(said) or {seen = '', on = {}, off = {}}
if ARGV[A + 3] ~= '' and not said.rest and redis.call('SCARD', OPEN) > 1 then return refuse('OPEN', 'other work of run ' .. t.run .. ' goes on') end
local specs = {}
for i = 1, n do
  local s = cjson.decode(ARGV[A + 4 + 2 * i])
  if not LANES[s.lane] then return refuse('LANE', 'lane ' .. s.lane .. ' was not declared') end
  if redis.call('HEXISTS', TASKS, s.id) == 1 then return refuse('EXISTS', 'task ' .. s.id .. ' is already on the board') end
  s.dl = math.min(deadline(r), MS + s.ms)
  if s.rr then s.rr.at = MS end
  specs[i] = s
end
local found, changed
if offered then found, changed = offered(A + 8 + 2 * n, specs) end
if changed then return changed end
-- Which lanes its tasks are in: whoever resumes it has to name them.
local known = {}
for _, lane in ipairs(r.lanes or {}) do known[lane] = true end
for _, s in ipairs(specs) do
  if not known[s.lane] then
    known[s.lane] = true
    r.lanes = r.lanes or {}
    r.lanes[#r.lanes + 1] = s.lane
  end
end
if r.again and not said.again then redis.call('ZREM', DUE, 's:' .. t.run) end
r.round, r.again = t.round, said.again
r.n = r.n + n
r.state = 'running'
close(id, t, 'succeeded', cjson.encode({orchestration_id = t.run, tool_use_id = t.tuid, node = t.cap,
  status = 'succeeded', attempts = t.att, worker = t.owner}))
bump_run(t.run, r, 'round.planned', ARGV[A + 2])
if ARGV[A + 3] ~= '' then
  local failure = given_up(ARGV[A + 3]) and cjson.decode(ARGV[A + 4]).error
  local kind = type(failure) == 'table' and failure.type or 'unspecified'
  if redis.call('SCARD', OPEN) > 0 then
    redis.call('HSET', TURNS, '!', ARGV[A + 4])
    give_up(t.run, r, ARGV[A + 3], {type = kind, message = said.rest})
    return r.state == 'cancelling' and 2 or 1
  end
  finish_run(t.run, r, ARGV[A + 3], ARGV[A + 4], kind)
  return 1
end
for i = 1, n do post(t.run, r, specs[i], ARGV[A + 5 + 2 * i]) end
for _, s in ipairs(specs) do
  local why = s.made and s.seen and lost_since(s.made, s.seen)
  if why then forsake(s.id, get(s.id), why) end
end
for _, one in ipairs(said.stop or {}) do
  local x = get(one[1])
  if x and not terminal(x) and not x.cxl then forsake(one[1], x, one[2]) end
end
if r.again and not r.pz then redis.call('ZADD', DUE, n2s(MS + r.again), 's:' .. t.run) end
-- What ended since the decision read the log, and what waits for nothing that is still open, is due at once.
for _, name in ipairs(said.off) do redis.call('HDEL', TURNS, '#' .. name) end
local ended = redis.call('HGET', TURNS, '#')
local ripe = ended and place(ended) > said.seen
for _, one in ipairs(said.on) do
  local name = one[1]
  for i = 2, #one do
    local x = get(one[i])
    if x and not terminal(x) then
      x.wk = x.wk or {}
      x.wk[#x.wk + 1] = name
      redis.call('HSET', TASKS, one[i], cjson.encode(x))
      redis.call('HINCRBY', TURNS, '#' .. name, 1)
    end
  end
  if redis.call('HEXISTS', TURNS, '#' .. name) == 0 then ripe = true end
end
if found then take_over(found) end
ripe = ripe or RIPE
if ripe then redis.call('HSET', TURNS, '#', LOGGED) elseif ended then redis.call('HDEL', TURNS, '#') end
local a, waits = agenda_of(), ARGV[A + 6 + 2 * n] or ''
local attended = a and attend(t.run, r, a, a.beside or n > 0 and a.rq and waits ~= '')
if ripe and redis.call('SCARD', OPEN) > 0 then
  post_step(t.run, r)
elseif not attended and redis.call('SCARD', OPEN) == 0 then
  local till, facts = string.match(waits, '^(%d+) (%d+)$')
  if a and till and a.f <= tonumber(facts) then
    post_control(t.run, r, a, math.max(0, tonumber(till) - MS))
  else
    post_step(t.run, r)
  end
end
return 1
