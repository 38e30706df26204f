-- Shared by every script of the board. One dialect for Redis 6.2, 7, 8, Valkey and the in-memory engine: only
-- redis.call, cjson, string, table and math. Payloads (inputs, results, messages) never pass through cjson, which
-- turns empty lists into objects and loses digits; headers hold only small fields this file writes itself.
--
-- KEYS   1 tasks  HASH   task id -> header             8 vt       HASH   lane:tenant -> virtual time and turn
--        2 data   HASH   task id -> input              9 runs     HASH   run id -> header
--        3 out    HASH   task id -> completion,       10 index    ZSET   run id by time of acceptance
--                        kept while others wait on it 11 ckpt     HASH   task id -> checkpoint
--        4 lease  ZSET   task id by lease end         12 outcomes HASH   capability|version|status -> count
--        5 wait   ZSET   task id by due time          13 quotas   HASH   subject -> its quota
--        6 due    ZSET   t:task, r:run by deadline,   14 use      HASH   what quotas count: n: t: o: u: d: and a subject; s: what successes took,
--                        s:run by when its model is         f: failures, see failed_itself()
--                        asked though work goes on
--        7 ev     STREAM feed of the shard            15 dead     HASH   task or run id -> dead letter; '' -> how many dropped
--                                                     16 deadx    ZSET   task or run id by time it was given up
--                                                     17 audit    STREAM what people did to runs
--        then per lane               q: ZSET tenants by virtual time, r: ZSET agenda, one lexical range a tenant, b: LIST doorbell
--        then, where a run is known  its log STREAM, its open SET, the HASH of its last turn in each lane and priority, in which
--                                    #<name> counts the open tasks that something waits for by this name, and # is the event
--                                    with which the last of some ended, or one failed that is told at once, until a step has
--                                    seen it, @<task> that its result was taken over, ! is the end of a run that is answered,
--                                    until what goes on has stopped,
--                                    its agenda HASH: number of an activation -> header; '' -> that of the agenda
-- ARGV   1 number of lanes, then their names, then the script's own.
local FIXED = 17
local NL = tonumber(ARGV[1])
local A = 2 + NL
local LANES = {}
for i = 1, NL do
  local k = FIXED + 3 * i
  LANES[ARGV[1 + i]] = {q = KEYS[k - 2], r = KEYS[k - 1], b = KEYS[k]}
end
local LOG, OPEN, TURNS = KEYS[FIXED + 3 * NL + 1], KEYS[FIXED + 3 * NL + 2], KEYS[FIXED + 3 * NL + 3]
local AGENDA = KEYS[FIXED + 3 * NL + 4]
local TASKS, DATA, OUT, LEASE, WAIT, DUE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local FEED, VT, RUNS, INDEX, CKPT, OUTCOMES = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local QUOTAS, USE, DEAD, DEADX, AUDIT = KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local LETTERS = 10000                      -- dead letters of a shard; beyond, the oldest go
-- Mistakes of the caller, who is told and corrects them: no work was given up.
local CORRECTED = {bad_input = 1, input_schema = 1, unresolved_reference = 1}
local FEED_LENGTH = '100000'
local TRAIL = 100000                       -- entries that the audit of a shard keeps, about
local WINDOW = 50                          -- failures of a version that are kept
local NEVER = '9007199254740991'           -- when what rests is due
local HEAD_START = 50                      -- turns that each level of priority is ahead of the one below
local STEP_LANE = 'arbiter'
local BIDDERS = 32                         -- tasks of a run that are asked to bid on open requests, at a time
local GRACE = 15000                        -- ms that a running attempt is given to stop
-- What the header of a new task begins with, and that of the run of a new call. Any other is in no order. Where a claim needs no
-- more, slot stands behind NEW and then head, which whoever makes a task writes: kind, cap, key, run, prio, version if it has one.
local NEW = '{"state":"ready","ver":1,"att":0,"fence":"0",'
local GOING = '{"state":"running","ver":1,'

local T = redis.call('TIME')
local US = T[1] * 1000000 + T[2]
local MS = math.floor(US / 1000)

local function n2s(x) return string.format('%.0f', x) end
local function n2v(x) return string.format('%.6f', x) end
local function refuse(code, detail) return redis.error_reply(code .. ' | ' .. detail) end
local function get(id)
  local j = redis.call('HGET', TASKS, id)
  if j then return cjson.decode(j) end
end
local function get_run(id)
  local j = redis.call('HGET', RUNS, id)
  if j then return cjson.decode(j) end
end
-- A paused run (pz: since when) is still queued or running: only its tasks rest.
local function active(r) return r.state == 'queued' or r.state == 'running' end
local function terminal(t)
  return t.state == 'succeeded' or t.state == 'failed' or t.state == 'refused' or t.state == 'timed_out'
    or t.state == 'cancelled'
end

-- The arbiter's own: a decision about a run, or what picks from its agenda.
local function deciding(t) return t.kind == 'step' or t.kind == 'control' end

-- {<first>, ...fields}: puts the beginning of an object before further fields, which must not be empty.
local function behind(first, fields) return first .. string.sub(cjson.encode(fields), 2) end
-- {"<name>": <raw>, ...fields}: puts ready JSON into an object without decoding it. fields must not be empty.
local function splice(name, raw, fields)
  return behind('{"' .. name .. '":' .. raw .. ',', fields)
end

local LOGGED = ''                          -- where in the log the last event is
-- An event goes to the shard's feed and, when it is part of the run's history, to the run's log with its data.
local function emit(kind, subject, ver, run, data, logged)
  local id = subject .. ':' .. ver
  local at = ''
  if logged then
    at = redis.call('XADD', LOG, '*', 'type', kind, 'subject', subject, 'id', id, 'data', data)
    data, LOGGED = '', at
  end
  redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'type', kind, 'subject', subject, 'id', id, 'run', run,
    'at', at, 'data', data)
  return at
end
local function bump(id, t, state, kind, data, logged)
  t.ver = t.ver + 1
  t.state = state
  local header = cjson.encode(t)
  redis.call('HSET', TASKS, id, header)
  emit(kind, id, t.ver, t.run, data, logged)
  return header
end
local function bump_run(run, r, kind, data)
  r.ver = r.ver + 1
  redis.call('HSET', RUNS, run, cjson.encode(r))
  emit(kind, run, r.ver, run, data, true)
end

-- Quotas: c attempts at a time, r attempts a second in bursts of b, o open runs, s runs a second in bursts of sb, w weight.
local LIMITED = redis.call('HLEN', QUOTAS) > 0
local quotas = {}
local function quota(subject)
  if not LIMITED then return nil end
  if quotas[subject] == nil then
    local j = redis.call('HGET', QUOTAS, subject)
    quotas[subject] = j and cjson.decode(j) or false
  end
  return quotas[subject]
end
local function used(kind, subject) return tonumber(redis.call('HGET', USE, kind .. subject) or '0') end
-- A rate is a token bucket, kept as the time in us at which it will be full again (generic cell rate algorithm, ITU-T I.371).
-- In how many ms there will be a token, 0 for now; and taking one.
local function early(kind, subject, rate, burst)
  return math.max(0, math.ceil((used(kind, subject) - (burst - 1) * 1000000 / rate - US) / 1000))
end
local function pour(kind, subject, rate)
  redis.call('HSET', USE, kind .. subject, n2s(math.max(used(kind, subject), US) + 1000000 / rate))
end

local function parked(t) return t.tenant .. '\1' .. t.cap end
local function agenda(id, t)
  return (t.park and parked(t) or t.tenant) .. '\0' .. string.format('%014.0f', t.slot or 0) .. '\0'
    .. string.format('%014.0f', t.at) .. '\0' .. id
end
local function ring(lane)
  redis.call('LPUSH', lane.b, '1')
  redis.call('LTRIM', lane.b, 0, 63)
end
-- An attempt is over. Quotas count it from claim to end; which ones do is in the header, so that the end gives back exactly
-- what the claim took, and wakes a worker for it.
local function let_go(id, t)
  redis.call('ZREM', LEASE, id)
  if not t.held then return end
  for _, subject in ipairs(t.held) do redis.call('HINCRBY', USE, 'n:' .. subject, -1) end
  t.held = nil
  if LANES[t.lane] then ring(LANES[t.lane]) end
end
-- A tenant's two clocks in a lane: its virtual time among the tenants, and the turn its runs are served at.
local function clocks(lane, tenant)
  local vt, turn = string.match(redis.call('HGET', VT, lane .. ':' .. tenant) or '0', '^(%S+) ?(%S*)$')
  return tonumber(vt), tonumber(turn) or 0
end
-- A tenant that had no ready work joins at the virtual time of the one served next, so that idling earns nothing. Within a
-- tenant runs take turns: a run's next task stands one turn behind its last one of that priority, a run without any right
-- behind the turn being served. A level of priority is a head start of so many turns, which age catches up with. keep: it had
-- a place already. The caller writes the header.
-- Source: start-time fair queueing (Goyal, Vin, Cheng 1996).
local function enqueue(id, t, keep)
  local lane = LANES[t.lane]
  local vt, turn = clocks(t.lane, t.tenant)
  if not redis.call('ZSCORE', lane.q, t.tenant) then
    local head = redis.call('ZRANGE', lane.q, 0, 0, 'WITHSCORES')
    if head[2] and tonumber(head[2]) > vt then vt = tonumber(head[2]) end
    redis.call('ZADD', lane.q, n2v(vt), t.tenant)
  end
  if not (keep and t.slot) then
    local mine = turn + 1
    if not deciding(t) and t.round > 0 then  -- a decision and a call are the only task of their run
      local place = t.lane .. ':' .. t.prio
      mine = math.max(turn, tonumber(redis.call('HGET', TURNS, place) or '0')) + 1
      redis.call('HSET', TURNS, place, n2s(mine))
    end
    t.slot = mine + (9 - t.prio) * HEAD_START
  end
  redis.call('ZADD', lane.r, 0, agenda(id, t))
  ring(lane)
end

-- Lays a task of a paused run to rest: off the agenda, its timers stopped. ms: what is left of a delay.
local function rest(id, t, ms)
  if t.state == 'ready' and LANES[t.lane] then redis.call('ZREM', LANES[t.lane].r, agenda(id, t)) end
  -- What waits for a person is found there, also while its run rests.
  if t.ask then redis.call('ZADD', WAIT, NEVER, id) else redis.call('ZREM', WAIT, id) end
  redis.call('ZREM', DUE, 't:' .. id)
  t.was, t.pz, t.ms, t.park = t.state, MS, ms, nil
  t.state = 'paused'
end
-- Time stands still for a paused run, so its deadline moves on.
local function deadline(r) return r.dl + (r.pz and MS - r.pz or 0) end
-- And for a task that waits for a person or for an answer from outside, and for what is blocked behind it, ms at the most;
-- negative: what is left of that. The caller writes the task's header. outside: it does not rest with its run, since what it waits
-- for does not.
local function stand_still(id, t, r, ms, outside)
  t.dl, r.dl = t.dl + ms, r.dl + ms
  if t.rr and t.rr.at then t.rr.at = t.rr.at + ms end
  redis.call('HSET', RUNS, t.run, cjson.encode(r))
  if not r.pz or outside then redis.call('ZADD', DUE, n2s(t.dl), 't:' .. id) end
  if not r.pz then redis.call('ZADD', DUE, n2s(r.dl), 'r:' .. t.run) end
  local behind, seen, n = {t}, {}, 1
  while n <= #behind do
    for _, d in ipairs(behind[n].outs or {}) do
      local x = not seen[d] and get(d)
      if x and (x.was or x.state) == 'blocked' and not x.cxl then
        x.dl = x.dl + ms
        redis.call('HSET', TASKS, d, cjson.encode(x))
        if x.state == 'blocked' then redis.call('ZADD', DUE, n2s(x.dl), 't:' .. d) end
        behind[#behind + 1] = x
      end
      seen[d] = true
    end
    n = n + 1
  end
end
-- A task that waits for an answer from outside does so no more: what is left of that time is taken back. The caller writes its
-- header.
local function called_back(id, t)
  redis.call('ZREM', WAIT, id)  -- a first write that a full server still takes
  if t.state ~= 'waiting' then return end  -- the answer came before its handler had said that it would wait
  local r = get_run(t.run)
  if r then stand_still(id, t, r, math.min(0, MS - t.cb.till), true) end
  t.cb = nil
end

-- s: id, kind, cap, version, lane, tuid, key, round, prio, max, dl (deadline, ms), ats (ms of one attempt),
-- rp (retry: first interval, rate, cap, in seconds), rr (more of the retry policy), lim (of the run, where no decision knows
-- them), need, deps, outs, olanes, src (where its input comes from), ent and made (see _results), bid (it is asked to bid), nap
-- (ms until it is ready, if nothing rouses it before), wk (names by which something waits for it), tell (its failure brings the
-- run's next step), from (the task whose result it takes over, see _taking_over); rr, lim, ent, bid, nap, tell, from and the lists
-- are absent when empty.
local function post(run, r, s, input)
  local t = {kind = s.kind, cap = s.cap, version = s.version, lane = s.lane, run = run, tenant = r.tenant, tuid = s.tuid,
    key = s.key, round = s.round, prio = s.prio, act = s.act, bid = s.bid, att = 0, max = s.max, fence = '0', at = MS,
    ver = 0, dl = s.dl, ats = s.ats, rp = s.rp, rr = s.rr, lim = s.lim, need = s.need, deps = s.deps, outs = s.outs, olanes = s.olanes, src = s.src,
    ent = s.ent, made = s.made, ag = s.ent and r.ag and 1 or nil, nap = s.nap and 1 or nil, wk = s.wk, tell = s.tell, from = s.from}
  redis.call('SADD', OPEN, s.id)
  redis.call('HSET', DATA, s.id, input)
  for _, name in ipairs(s.wk or {}) do redis.call('HINCRBY', TURNS, '#' .. name, 1) end
  local state = t.need and t.need > 0 and 'blocked' or 'ready'
  local now = s.nap and 'delayed' or state
  if r.pz then
    t.state = now
    rest(s.id, t, s.nap)
    now = t.state
  else
    redis.call('ZADD', DUE, n2s(t.dl), 't:' .. s.id)
    if s.nap then
      redis.call('ZADD', WAIT, n2s(MS + s.nap), s.id)
    elseif state == 'ready' then
      enqueue(s.id, t)
    end
  end
  local told = splice('input', input, {task = s.id, kind = t.kind, capability = t.cap,
    version = t.version, lane = t.lane, tool_use_id = t.tuid, key = t.key, round = t.round, after = t.deps,
    state = state, deadline_ms = t.dl, taint = t.src, activation = t.act})
  if now ~= 'ready' then
    bump(s.id, t, now, 'task.posted', told, true)
  else
    t.att, t.fence, t.ver = nil, nil, nil
    local first = NEW
    if s.head and not t.deps and not t.rr then
      first = NEW .. '"slot":' .. n2s(t.slot) .. ',' .. s.head
      t.slot, t.kind, t.cap, t.key, t.run, t.prio, t.version = nil, nil, nil, nil, nil, nil, nil
    end
    redis.call('HSET', TASKS, s.id, behind(first, t))
    emit('task.posted', s.id, 1, run, told, true)
  end
end
-- why: what it is given, as JSON, where it is not taken because something ended.
local function post_step(run, r, why)
  local n = r.round + 1
  post(run, r, {id = run .. '/s' .. n, kind = 'step', cap = 'arbiter', lane = STEP_LANE, tuid = 'step', key = 's' .. n,
    head = '"kind":"step","cap":"arbiter","key":"s' .. n .. '","run":"' .. run .. '","prio":5,',
    round = n, prio = 5, max = r.smax, dl = deadline(r), ats = r.sats}, why or 'null')
end

-- Whether a decision about the run is open. It may stand beside other work, but only one at a time.
local function decided_on(run, r)
  local step = get(run .. '/s' .. n2s(r.round + 1))
  return step and not terminal(step)
end

-- Of an agenda: ver, q (activations so far), w (waiting), p (parked), busy (picked and not over), bids (those of them that were
-- asked to bid), n (control tasks so far), ctl (the one that is open), beside (it naps while other work goes on), f (facts about
-- entries), rq (which was the last about an open request), seen (those the last pick had seen), sv (strategy it rated by), m
-- (the triggers of an entry have made no activations yet).
local function new_agenda() return {ver = 0, q = 0, w = 0, p = 0, busy = 0, n = 0, f = 0, seen = 0, sv = ''} end
local function agenda_of()
  local j = redis.call('HGET', AGENDA, '')
  return j and cjson.decode(j)
end
local function keep_agenda(a) redis.call('HSET', AGENDA, '', cjson.encode(a)) end
-- nap: ms after which it looks, if nothing rouses it before.
local function post_control(run, r, a, nap)
  a.n = a.n + 1
  a.ctl = run .. '/c' .. n2s(a.n)
  keep_agenda(a)
  post(run, r, {id = a.ctl, kind = 'control', cap = 'arbiter', lane = STEP_LANE, tuid = 'control', key = 'c' .. n2s(a.n),
    round = r.round, prio = 5, max = r.smax, dl = deadline(r), ats = r.sats, nap = nap}, 'null')
end
-- Something happened that a task which naps may have waited for.
local function rouse(id)
  local t = get(id)
  if not t.nap then return false end
  t.nap, t.at = nil, MS
  if t.state == 'paused' then
    t.was, t.ms = 'ready', nil
    redis.call('HSET', TASKS, id, cjson.encode(t))
  else
    redis.call('ZREM', WAIT, id)
    enqueue(id, t)
    bump(id, t, 'ready', 'task.ready', '', false)
  end
  return true
end
-- Whether so many more may be picked that are not asked to bid.
local function room(r, a, more) return a.busy - (a.bids or 0) + more <= r.ag.c end
-- Posts the task that picks, where there is something to pick or to look at again, and room for it, or the premise of something
-- that runs may have gone (a.pr: the fact it may have gone with), and nobody decides already. also: there is another reason.
-- Beside other work it naps for the open requests, and what has nothing to do with them does not rouse it.
local function attend(run, r, a, also)
  local due = also or a.pr or a.m or room(r, a, 1) and (a.w > 0 or a.p > 0 and a.f > a.seen)
  if a.ctl then return (due or not a.beside) and rouse(a.ctl) end
  if not due then return false end
  if decided_on(run, r) then return false end
  post_control(run, r, a)
  return true
end

-- Work was given up: puts a small header beside the log, which has the rest. t: the task; nil for a run that decisions made.
local function letter(id, run, r, t, status, kind)
  redis.call('HSET', DEAD, id, cjson.encode({run = run, kind = r.call and 'call' or t and t.kind or 'run',
    cap = t and t.cap, version = t and t.version, lane = t and t.lane, tenant = r.tenant, status = status, type = kind,
    att = t and t.att or 0, at = MS, n = 0}))
  redis.call('ZADD', DEADX, n2s(MS), id)
  local over = redis.call('ZCARD', DEADX) - LETTERS
  if over <= 0 then return end
  for _, old in ipairs(redis.call('ZRANGE', DEADX, 0, over - 1)) do
    redis.call('ZREM', DEADX, old)
    redis.call('HDEL', DEAD, old)
    redis.call('HINCRBY', DEAD, '', 1)
  end
end
local function given_up(status) return status == 'failed' or status == 'timed_out' end

-- Of a run that this script ended: how, how many ms after its acceptance, and of which kind it was.
local OVER = {}
-- kind: the type of the error it ended with.
local function finish_run(run, r, status, data, kind)
  OVER = {status, n2s(MS - r.at), r.call and 'call' or 'planned'}
  r.state = status
  r.ended = MS
  r.pz, r.pu = nil, nil
  redis.call('ZREM', DUE, 'r:' .. run, 's:' .. run)
  if not r.call then redis.call('DEL', OPEN, TURNS) end
  for _, subject in ipairs(r.held or {}) do
    redis.call('HINCRBY', USE, 'o:' .. subject, -1)
    local mean = used('d:', subject)
    redis.call('HSET', USE, 'd:' .. subject, n2s(mean == 0 and MS - r.at or 0.9 * mean + 0.1 * (MS - r.at)))
  end
  r.held = nil
  if given_up(status) and not (r.call and CORRECTED[kind]) then
    letter(run, run, r, r.call and get(r.call), status, kind)
  end
  bump_run(run, r, 'run.completed', data)
end
local function ended_without_answer(run, r, status, kind, message, short)
  finish_run(run, r, status, cjson.encode({status = status, rounds = r.round,
    error = {type = kind, message = message, retryable = false}}), short or kind)
end
-- Of a run that was being stopped, with the last of its tasks: as it was answered, where it was.
local function stopped(run, r)
  local answer = redis.call('HGET', TURNS, '!')
  if answer then finish_run(run, r, r.want, answer, r.word) else ended_without_answer(run, r, r.want, r.word, r.why) end
end

-- Whether the quotas admit another run of the tenant: the refusal to reply, or nil. Call before the first write.
local function full(tenant)
  for _, subject in ipairs({'board', 'tenant:' .. tenant}) do
    local q = quota(subject)
    if q and q.o then
      local open = used('o:', subject)
      if open >= q.o then
        -- Little's law: with so many open and so long a run, one ends about every (mean time / open). None has ended: a guess.
        local mean = used('d:', subject)
        local ms = mean == 0 and 1000 or math.max(100, math.min(60000, math.ceil((mean + 1) / math.max(open, 1))))
        return refuse('QUOTA', subject .. ' ' .. n2s(ms) .. ' has ' .. n2s(open) .. ' open runs of ' .. n2s(q.o))
      end
    end
    if q and q.s then
      local ms = early('u:', subject, q.s, q.sb)
      if ms > 0 then
        return refuse('QUOTA', subject .. ' ' .. n2s(ms) .. ' may start ' .. string.format('%.6g', q.s) .. ' runs a second')
      end
    end
  end
end
-- The reply to a submission that makes no new run: its key has one already, or there is no room. Call before the first write.
local function settled(run, tenant, sha)
  local known = get_run(run)
  if not known then return full(tenant) end
  if known.sha ~= sha then
    return refuse('CONFLICT', 'this idempotency key already belongs to run ' .. run .. ' with a different request')
  end
  return {run, 0}
end
-- Counts an admitted run, whose header remembers which quotas do.
local function admit(r)
  for _, subject in ipairs({'board', 'tenant:' .. r.tenant}) do
    local q = quota(subject)
    if q and q.o then
      redis.call('HINCRBY', USE, 'o:' .. subject, 1)
      r.held = r.held or {}
      r.held[#r.held + 1] = subject
    end
    if q and q.s then pour('u:', subject, q.s) end
  end
end

-- Somebody did something to a run: for the audit, in the script that does it. What the board does by itself has no by.
local function audit(verb, subject, by, reason, tenant)
  if by == '' then return end
  redis.call('XADD', AUDIT, 'MAXLEN', '~', TRAIL, '*', 'verb', verb, 'subject', subject, 'by', by, 'reason', reason,
    'tenant', tenant, 'at', n2s(MS))
end

-- The completion of a task nobody can report on: its worker is gone, its time is over, it was cancelled. That it stopped is
-- certain where nobody held it or works on it outside, or where its holder gave it back.
local function verdict(t, status, kind, message, stopped)
  return cjson.encode({orchestration_id = t.run, tool_use_id = t.tuid, node = t.cap, status = status, version = t.version,
    attempts = t.att, worker = t.owner, taint = t.src, error = {type = kind, message = message, retryable = false,
    evidence = {stopped = stopped or t.state ~= 'claimed' and t.state ~= 'waiting'}}})
end

local RIPE = false                         -- the last of some tasks ended here that something waits for, or one failed that is told
local function ripen()
  redis.call('HSET', TURNS, '#', LOGGED)
  RIPE = true
end
local function close(id, t, status, completion)
  let_go(id, t)
  if t.state ~= 'claimed' then redis.call('ZREM', WAIT, id) end
  redis.call('ZREM', DUE, 't:' .. id)
  redis.call('HDEL', DATA, id)
  redis.call('HDEL', CKPT, id)
  redis.call('SREM', OPEN, id)
  if t.state == 'ready' and LANES[t.lane] then redis.call('ZREM', LANES[t.lane].r, agenda(id, t)) end
  t.was, t.pz, t.ms = nil, nil, nil
  if t.act or t.kind == 'control' then
    local a = agenda_of()
    if t.act then a.busy = a.busy - 1 else a.ctl, a.beside = nil, nil end
    if t.bid then a.bids = a.bids - 1 end
    keep_agenda(a)
  end
  if t.outs then
    local stored = get(id)
    t.left = stored and stored.left or #t.outs
    if t.left > 0 then redis.call('HSET', OUT, id, completion) end
  end
  for _, d in ipairs(t.deps or {}) do
    local x = get(d)
    x.left = (x.left or #x.outs) - 1
    redis.call('HSET', TASKS, d, cjson.encode(x))
    if x.left == 0 then redis.call('HDEL', OUT, d) end
  end
  if t.version and not t.from then redis.call('HINCRBY', OUTCOMES, t.cap .. '|' .. t.version .. '|' .. status, 1) end
  bump(id, t, status, 'task.completed', completion, true)
  for _, name in ipairs(t.wk or {}) do
    local left = tonumber(redis.call('HGET', TURNS, '#' .. name) or '0') - 1
    if left > 0 then
      redis.call('HSET', TURNS, '#' .. name, n2s(left))
    elseif left == 0 then            -- below: nothing waits by this name any more
      redis.call('HDEL', TURNS, '#' .. name)
      ripen()
    end
  end
  if t.tell and (given_up(status) or status == 'refused') then ripen() end
end

-- A version failed by its own doing: how many times it has, and for each of the latest how many tasks had succeeded until then.
local function failed_itself(t)
  local subject = t.cap .. '|' .. t.version
  local count, kept = string.match(redis.call('HGET', USE, 'f:' .. subject) or '0', '^(%d+)(.*)$')
  if tonumber(count) >= WINDOW then kept = string.match(kept, '^ %d+(.*)$') end
  redis.call('HSET', USE, 'f:' .. subject, n2s(count + 1) .. kept .. ' '
    .. (redis.call('HGET', OUTCOMES, subject .. '|succeeded') or '0'))
end

-- What a report says of its error, beside the completion: type and message, short where the type is long, and own where it
-- speaks against the code; '' where there is none. A process of an earlier version says nothing.
local function told(text)
  if text == '' then return false end
  return text and cjson.decode(text)
end
-- What an entered task came to is written on its run's board: reported() looks at what its worker says of that, enter() writes.
-- They are in _results, which is not there where no such task can end.
local reported, enter
-- Stops everything open in a run. Claimed tasks are told through their heartbeat, unless force: then they end now and
-- their workers find themselves fenced.
local function stop_run(run, r, force)
  local late = r.want == 'timed_out'
  local status, word = late and r.want or 'cancelled', late and r.word or 'cancelled'
  for _, id in ipairs(redis.call('SMEMBERS', OPEN)) do
    local t = get(id)
    if t and not terminal(t) then
      if t.state == 'claimed' and not deciding(t) and not force then
        t.cxl = 1
        redis.call('HSET', TASKS, id, cjson.encode(t))
      else
        close(id, t, status, verdict(t, status, word, r.why))
      end
    end
  end
  if redis.call('SCARD', OPEN) == 0 then stopped(run, r) end
end
-- A decision failed, or answered, beside other work: nobody waits for what that comes to. It is stopped, and the run ends with the last of it.
local function give_up(run, r, status, failure)
  local left = deadline(r)
  r.state, r.want, r.word, r.why = 'cancelling', status, failure.type, failure.message
  r.pz, r.pu = nil, nil
  redis.call('ZADD', DUE, n2s(math.min(left, MS + GRACE)), 'r:' .. run)
  bump_run(run, r, 'run.cancelling', cjson.encode({reason = r.why}))
  stop_run(run, r, false)
end
-- What some tasks are posted with that succeeded in the run theirs goes on from; they are in _taking_over, which is there where
-- there is such a run.
local offered, take_over
-- Ends a task, and with it what waited for it and cannot begin any more; what can is ready.
local function settle(id, t, status, completion)
  local todo = {{id, t, status, completion}}
  local n = 1
  while n <= #todo do
    local e = todo[n]
    n = n + 1
    close(e[1], e[2], e[3], e[4])
    for _, d in ipairs(e[2].outs or {}) do
      local x = get(d)
      local resting = x and x.state == 'paused' and x.was == 'blocked'
      if resting or x and x.state == 'blocked' then
        if e[3] == 'succeeded' then
          x.need = x.need - 1
          if x.need > 0 then
            redis.call('HSET', TASKS, d, cjson.encode(x))
          elseif resting then
            x.at, x.was = MS, 'ready'
            redis.call('HSET', TASKS, d, cjson.encode(x))
          else
            x.at = MS
            enqueue(d, x)
            bump(d, x, 'ready', 'task.ready', '', false)
          end
        else
          x.state = 'doomed'
          redis.call('HSET', TASKS, d, cjson.encode(x))
          todo[#todo + 1] = {d, x, 'cancelled', verdict(x, 'cancelled', 'dependency',
            'task ' .. e[2].key .. ' (' .. e[2].cap .. ') ended as ' .. e[3] .. ', so this one was not started')}
        end
      end
    end
  end
end
-- The same and, when it was the last open one of the run, or of those that something waits for, what comes next. failure: as
-- told() gives it; a verdict says it itself.
local function finish(id, t, status, completion, failure)
  local last = t
  settle(id, t, status, completion)
  local r
  if status ~= 'succeeded' then
    if failure == nil then failure = cjson.decode(completion).error end
    if type(failure) ~= 'table' then failure = false end
    local kind = failure and (failure.short or failure.type) or 'unspecified'
    if failure and failure.own and t.version then failed_itself(t) end
    if given_up(status) and not deciding(t) and not t.cxl and not CORRECTED[kind] then
      r = get_run(t.run)
      if r and not r.call then letter(id, t.run, r, t, status, kind) end
    end
  end
  if t.ent and enter and status ~= 'cancelled' then enter(id, t, status, completion, failure) end
  local a = not deciding(t) and agenda_of()
  if a then
    r = r or get_run(t.run)
    local asked = a.beside or t.bid and a.w > 0 and a.bids == BIDDERS - 1  -- some were not asked for want of room
    if r and active(r) and attend(t.run, r, a, asked) and not RIPE then return end
  end
  if RIPE then
    r = r or get_run(t.run)
    if r and active(r) and not decided_on(t.run, r) then post_step(t.run, r) end
  end
  local open = redis.call('SCARD', OPEN)
  if open > 0 and t.kind ~= 'step' then return end
  r = r or get_run(t.run)
  if not r then return end
  if r.state == 'cancelling' then
    if open == 0 then stopped(t.run, r) end
  elseif active(r) then
    if deciding(last) then
      failure = failure or {type = 'handler_error', message = 'the step ended without a reason'}
      -- Only commit and agenda_decide end these well, so one that merely says so has decided nothing.
      if status == 'succeeded' then status = 'failed' end
      if open > 0 then
        give_up(t.run, r, status, failure)
      else
        ended_without_answer(t.run, r, status, failure.type, failure.message)
      end
    elseif r.call then
      if failure then
        ended_without_answer(t.run, r, status, failure.type, failure.message, failure.short)
      else
        finish_run(t.run, r, status, cjson.encode({status = status, rounds = r.round}), 'unspecified')
      end
    else
      post_step(t.run, r)
    end
  end
end

-- An attempt ended without a result: try again after delay ms (0 or more), unless attempts or time are used up. Then the
-- second value says in plain words why not; it is empty where the number of attempts says it.
-- why: the error and what follows it in the event, as JSON members. by: the retry rule the error falls under, if any: key
-- (its count in rc), max (how many failures under it end the task), age (ms after the posting that no attempt begins).
local function again(id, t, delay, why, by)
  if t.cxl or t.att >= t.max then return false, '' end
  local n = by and ((t.rc or {})[by.key] or 0) + 1
  if n and n >= by.max then return false, 'No attempt follows: ' .. n2s(n) .. ' of ' .. n2s(by.max) .. ' failed in this way.' end
  local last, what = t.dl, 'deadline of the task'
  local rr = t.rr or {}
  local age = by and by.age or rr.age
  if age and (rr.at or t.at) + age < last then
    last, what = (rr.at or t.at) + age, 'age at which the last attempt may begin'
  end
  if MS + delay > last then
    return false, string.format('No attempt follows: a wait of %.1f s does not fit before the %s, %.1f s from now.',
      delay / 1000, what, math.max(0, last - MS) / 1000)
  end
  if n then
    t.rc = t.rc or {}
    t.rc[by.key] = n
  end
  let_go(id, t)
  local r, state = get_run(t.run), 'delayed'
  if r and r.pz then
    t.state = state
    rest(id, t, delay)
    state = t.state
  else
    redis.call('ZADD', WAIT, n2s(MS + delay), id)
  end
  bump(id, t, state, 'task.retried', splice('error', why, {attempt = t.att, delay_ms = delay}), true)
  return true
end

-- The same, or the end of the task. The completion ends with its error's message. failure: as told() gives it.
local function again_or_end(id, t, status, completion, failure, delay, why, by)
  local more, word = again(id, t, delay, why, by)
  if more then return end
  if word ~= '' and string.sub(completion, -3) == '"}}' then
    local stop = string.sub(completion, -4, -4) == '.' and ' ' or '. '
    completion = string.sub(completion, 1, -4) .. stop .. word .. '"}}'
    if failure then failure.message = failure.message .. stop .. word end
  end
  finish(id, t, status, completion, failure)
end

-- The task behind a fence, or the refusal to reply. Call before the first write.
local function held(id, fence)
  local t = get(id)
  if not t then return nil, refuse('UNKNOWN', 'no task ' .. id .. ' on this board') end
  if t.state ~= 'claimed' or t.fence ~= fence then
    return nil, refuse('FENCED', id .. ' is ' .. t.state .. ' and no longer held by this claim'), t
  end
  return t
end
