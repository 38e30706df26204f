-- own: control task, fence, '1' when this ends it, a number that rises with each call of this attempt, facts it had seen, strategy
-- it rated by ('' while some are not rated by it yet), agenda.decided data, how many are rated, number, rating and score ('' for
-- none) of its meaning of each, how many are set aside, number, state (parked, obviated) and why of each, how many are picked,
-- number, spec and input of each, the entry that was compared with triggers ('' where none was), version of the triggers and keys
-- of those that fit; then, for open requests, how many tasks were open, until when (ms) to nap while others are ('' not at all),
-- how many tasks that are no activations', spec and input of each. Then, where the run goes on from another one, what _taking_over
-- takes, of those that are picked and then of these.
-- What control found out and decided, in one step; what it picks becomes tasks of the run. Nothing is done when one of them
-- is not any more what it was when control looked: it looks again.
local id, ends = ARGV[A], ARGV[A + 2] == '1'
local t, no, other = held(id, ARGV[A + 1])
if not t then
  if ends and other and other.fence == ARGV[A + 1] and other.state == 'succeeded' then return 0 end
  return no
end
local run = t.run
RUN = get_run(run)
if not RUN or not active(RUN) then return refuse('FENCED', 'run ' .. run .. ' is no longer going on') end
local a = agenda_of()
local call = id .. ' ' .. t.fence .. ' ' .. ARGV[A + 3]
if a.call == call then return 0 end
local at = A + 7
local function following()
  at = at + 1
  return ARGV[at - 1]
end
local function waiting(q)
  local x = activation(q)
  if x and (x.st == 'waiting' or x.st == 'parked') then return x end
end
local gone
local function checked(s)
  if not LANES[s.lane] then return refuse('LANE', 'lane ' .. s.lane .. ' was not declared') end
  if redis.call('HEXISTS', TASKS, s.id) == 1 then return refuse('EXISTS', 'task ' .. s.id .. ' is already on the board') end
  s.dl = math.min(deadline(RUN), MS + s.ms)
  if s.rr then s.rr.at = MS end
end
local rated, aside, picked, seen, bids = {}, {}, {}, {}, 0
for i = 1, tonumber(following()) do
  local q = following()
  local x = waiting(q)
  if not x then gone = q end
  rated[i], seen[q] = {x, following(), following()}, x
end
for i = 1, tonumber(following()) do
  local q = following()
  local x = seen[q] or waiting(q)
  if not x then gone = q end
  aside[i] = {x, following(), following()}
end
for i = 1, tonumber(following()) do
  local q = following()
  local x = seen[q] or waiting(q)
  if not x then gone = q end
  local s = cjson.decode(following())
  local wrong = checked(s)
  if wrong then return wrong end
  s.act = tonumber(q)
  if s.bid then bids = bids + 1 end
  picked[i] = {x, s, following()}
end
local compared, version, keys = following(), following(), following()
local fewer = redis.call('SCARD', OPEN) < tonumber(following())
local till = tonumber(following())
local further = {}
for i = 1, tonumber(following()) do
  local s = cjson.decode(following())
  local wrong = checked(s)
  if wrong then return wrong end
  further[i] = {s, following()}
end
local specs = {}
for _, one in ipairs(picked) do specs[#specs + 1] = one[2] end
for _, one in ipairs(further) do specs[#specs + 1] = one[1] end
local found, changed
if offered then found, changed = offered(at, specs) end
if changed then return changed end
local head = compared ~= '' and redis.call('LINDEX', MORE, 0)
local src = head and string.match(head, '^([^\n]*)\n%?$')
if src and cjson.decode(src).e ~= compared then src = nil end
if src and (redis.call('HGET', TRIGGERS, '') or '0') ~= version then return refuse('STALE', 'the triggers have changed') end
if gone then return refuse('STALE', 'activation ' .. gone .. ' does not wait any more') end
if not room(RUN, a, #picked - bids) or (a.bids or 0) + bids > BIDDERS then
  return refuse('STALE', 'there is no room for ' .. #picked .. ' more')
end

if ends then
  close(id, t, 'succeeded', cjson.encode({orchestration_id = run, tool_use_id = t.tuid, node = t.cap, status = 'succeeded',
    attempts = t.att, worker = t.owner}))
  a.ctl, a.beside = nil, nil
  if a.pr and a.pr <= tonumber(ARGV[A + 4]) then a.pr = nil end
end
record(a, run, 'decided', ARGV[A + 6])
a.call, a.seen = call, tonumber(ARGV[A + 4])
if ARGV[A + 5] ~= '' then a.sv = ARGV[A + 5] end
for _, one in ipairs(rated) do
  local x = one[1]
  if x.st == 'parked' then a.p, a.w, x.st, x.why = a.p - 1, a.w + 1, 'waiting', nil end
  if not x.pin then x.rt = one[2] end
  if one[3] ~= '' then x.mn = tonumber(one[3]) end
  redis.call('ZADD', WAITING, x.pin or score(x.rt), place_of(x.q))
  keep_activation(x)
end
for _, one in ipairs(aside) do
  local x = one[1]
  if x.st == 'parked' then a.p = a.p - 1 else a.w = a.w - 1 end
  x.st, x.why = one[2], one[3]
  if x.st == 'parked' then
    a.p = a.p + 1
    redis.call('ZADD', WAITING, '+inf', place_of(x.q))
  else
    redis.call('ZREM', WAITING, place_of(x.q))
  end
  keep_activation(x)
end
local known = {}
for _, lane in ipairs(RUN.lanes or {}) do known[lane] = true end
local function begin(s, input)
  if not known[s.lane] then
    known[s.lane] = true
    RUN.lanes = RUN.lanes or {}
    RUN.lanes[#RUN.lanes + 1] = s.lane
  end
  RUN.n = RUN.n + 1
  post(run, RUN, s, input)
end
for _, one in ipairs(picked) do
  local x, s = one[1], one[2]
  redis.call('ZREM', WAITING, place_of(x.q))
  a.w, a.busy = a.w - 1, a.busy + 1
  x.st, x.task = 'picked', s.id
  keep_activation(x)
  begin(s, one[3])
end
if bids > 0 then a.bids = (a.bids or 0) + bids end
for _, one in ipairs(further) do begin(one[1], one[2]) end
if picked[1] or further[1] then redis.call('HSET', RUNS, run, cjson.encode(RUN)) end
if ends then
  if src then redis.call('LSET', MORE, 0, src .. '\n' .. keys) end
  if not (more(a, run) and redis.call('LINDEX', MORE, 0)) then a.m = nil end
  keep_agenda(a)
  if found then
    take_over(found)
    a = agenda_of()
  end
  local facts, open = tonumber(ARGV[A + 4]), redis.call('SCARD', OPEN)
  -- Something about its requests was written, or ended, that it has not seen.
  local again = open > 0 and (a.rq and a.rq > facts or till and (a.f > facts or fewer))
  if attend(run, RUN, a, again) then return 1 end
  if open == 0 then
    post_step(run, RUN)
  elseif till then
    a.beside = 1
    post_control(run, RUN, a, math.max(0, till - MS))
  end
else
  keep_agenda(a)
end
return 1
