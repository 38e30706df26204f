-- Shared by every script of the board. One dialect for Redis 6.2, 7, 8, Valkey and the in-memory engine: only
-- redis.call, cjson, string, table and math. Payloads (inputs, results, messages) never pass through cjson, which
-- turns empty lists into objects and loses digits; headers hold only small fields this file writes itself.
--
-- KEYS   1 tasks  HASH   task id -> header            8 vt       HASH   last virtual time of lane:tenant
--        2 data   HASH   task id -> input             9 runs     HASH   run id -> header
--        3 out    HASH   task id -> completion,      10 index    ZSET   run id by time of acceptance
--                        kept while others wait on it 11 ckpt    HASH   task id -> checkpoint
--        4 lease  ZSET   task id by lease end        12 outcomes HASH   capability|version|status -> count
--        5 wait   ZSET   task id by due time        then per lane   q: ZSET tenants by virtual time
--        6 due    ZSET   t:task, r:run by deadline                  r: ZSET agenda, one lexical range a tenant
--        7 ev     STREAM feed of the shard                          b: LIST doorbell
--                                                   then, where a run is known   its log STREAM and its open SET
-- ARGV   1 number of lanes, then their names, then the script's own.
local FIXED = 12
local NL = tonumber(ARGV[1])
local A = 2 + NL
local LANES = {}
for i = 1, NL do
  local k = FIXED + 3 * i
  LANES[ARGV[1 + i]] = {q = KEYS[k - 2], r = KEYS[k - 1], b = KEYS[k]}
end
local LOG, OPEN = KEYS[FIXED + 3 * NL + 1], KEYS[FIXED + 3 * NL + 2]
local TASKS, DATA, OUT, LEASE, WAIT, DUE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local FEED, VT, RUNS, INDEX, CKPT, OUTCOMES = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local FEED_LENGTH = 100000
local STEP_LANE = 'arbiter'

local T = redis.call('TIME')
local US = T[1] * 1000000 + T[2]
local MS = math.floor(US / 1000)

local function n2s(x) return string.format('%.0f', x) end
local function refuse(code, detail) return redis.error_reply(code .. ' | ' .. detail) end
local function get(id)
  local j = redis.call('HGET', TASKS, id)
  if j then return cjson.decode(j) end
end
local function get_run(id)
  local j = redis.call('HGET', RUNS, id)
  if j then return cjson.decode(j) end
end
local function active(r) return r.state == 'queued' or r.state == 'running' end
local function terminal(t)
  return t.state == 'succeeded' or t.state == 'failed' or t.state == 'refused' or t.state == 'timed_out'
    or t.state == 'cancelled'
end

-- {"<name>": <raw>, ...fields}: puts ready JSON into an object without decoding it. fields must not be empty.
local function splice(name, raw, fields)
  return '{"' .. name .. '":' .. raw .. ',' .. string.sub(cjson.encode(fields), 2)
end

-- An event goes to the shard's feed and, when it is part of the run's history, to the run's log with its data.
local function emit(kind, subject, ver, run, data, logged)
  local id = subject .. ':' .. ver
  local at = ''
  if logged then
    at = redis.call('XADD', LOG, '*', 'type', kind, 'subject', subject, 'id', id, 'data', data)
    data = ''
  end
  redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'type', kind, 'subject', subject, 'id', id, 'run', run,
    'at', at, 'data', data)
end
local function bump(id, t, state, kind, data, logged)
  t.ver = t.ver + 1
  t.state = state
  redis.call('HSET', TASKS, id, cjson.encode(t))
  emit(kind, id, t.ver, t.run, data, logged)
end
local function bump_run(run, r, kind, data)
  r.ver = r.ver + 1
  redis.call('HSET', RUNS, run, cjson.encode(r))
  emit(kind, run, r.ver, run, data, true)
end

local function agenda(id, t)
  return t.tenant .. '\0' .. (9 - t.prio) .. '\0' .. string.format('%014.0f', t.at) .. '\0' .. id
end
local function ring(lane)
  redis.call('LPUSH', lane.b, '1')
  redis.call('LTRIM', lane.b, 0, 63)
end
-- A tenant that had no ready work joins at the virtual time of the one served next, so that idling earns nothing.
local function enqueue(id, t)
  local lane = LANES[t.lane]
  redis.call('ZADD', lane.r, 0, agenda(id, t))
  if not redis.call('ZSCORE', lane.q, t.tenant) then
    local vt = tonumber(redis.call('HGET', VT, t.lane .. ':' .. t.tenant) or '0')
    local head = redis.call('ZRANGE', lane.q, 0, 0, 'WITHSCORES')
    if head[2] and tonumber(head[2]) > vt then vt = tonumber(head[2]) end
    redis.call('ZADD', lane.q, vt, t.tenant)
  end
  ring(lane)
end

-- s: id, kind, cap, version, lane, tuid, key, round, prio, max, dl (deadline, ms), ats (ms of one attempt),
-- rp (retry: first interval, rate, cap, in seconds), need, deps, outs, olanes; the lists are absent when empty.
local function post(run, tenant, s, input)
  local t = {kind = s.kind, cap = s.cap, version = s.version, lane = s.lane, run = run, tenant = tenant, tuid = s.tuid,
    key = s.key, round = s.round, prio = s.prio, att = 0, max = s.max, fence = '0', at = MS, ver = 0, dl = s.dl,
    ats = s.ats, rp = s.rp, need = s.need, deps = s.deps, outs = s.outs, olanes = s.olanes}
  redis.call('SADD', OPEN, s.id)
  redis.call('ZADD', DUE, n2s(t.dl), 't:' .. s.id)
  redis.call('HSET', DATA, s.id, input)
  local state = 'ready'
  if t.need and t.need > 0 then state = 'blocked' end
  bump(s.id, t, state, 'task.posted', splice('input', input, {task = s.id, kind = t.kind, capability = t.cap,
    version = t.version, lane = t.lane, tool_use_id = t.tuid, key = t.key, round = t.round, after = t.deps,
    state = state, deadline_ms = t.dl}), true)
  if state == 'ready' then enqueue(s.id, t) end
end
local function post_step(run, r)
  local n = r.round + 1
  post(run, r.tenant, {id = run .. '/s' .. n, kind = 'step', cap = 'arbiter', lane = STEP_LANE, tuid = 'step', key = 's' .. n,
    round = n, prio = 5, max = r.smax, dl = r.dl, ats = r.sats}, 'null')
end

local function finish_run(run, r, status, data)
  r.state = status
  r.ended = MS
  redis.call('ZREM', DUE, 'r:' .. run)
  redis.call('DEL', OPEN)
  bump_run(run, r, 'run.completed', data)
end
local function ended_without_answer(run, r, status, kind, message)
  finish_run(run, r, status, cjson.encode({status = status, rounds = r.round,
    error = {type = kind, message = message, retryable = false}}))
end

-- The completion of a task nobody can report on: its worker is gone, its time is over, it was cancelled.
local function verdict(t, status, kind, message)
  return cjson.encode({orchestration_id = t.run, tool_use_id = t.tuid, node = t.cap, status = status, version = t.version,
    attempts = t.att, worker = t.owner, error = {type = kind, message = message, retryable = false}})
end

local function close(id, t, status, completion)
  redis.call('ZREM', LEASE, id)
  redis.call('ZREM', WAIT, id)
  redis.call('ZREM', DUE, 't:' .. id)
  redis.call('HDEL', DATA, id)
  redis.call('HDEL', CKPT, id)
  redis.call('SREM', OPEN, id)
  if t.state == 'ready' and LANES[t.lane] then redis.call('ZREM', LANES[t.lane].r, agenda(id, t)) end
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
  if t.version then redis.call('HINCRBY', OUTCOMES, t.cap .. '|' .. t.version .. '|' .. status, 1) end
  bump(id, t, status, 'task.completed', completion, true)
end

-- Ends a task: result, dependants and, when it was the last open one of the run, what comes next.
local function finish(id, t, status, completion)
  local last = t
  local todo = {{id, t, status, completion}}
  local n = 1
  while n <= #todo do
    local e = todo[n]
    n = n + 1
    close(e[1], e[2], e[3], e[4])
    for _, d in ipairs(e[2].outs or {}) do
      local x = get(d)
      if x and x.state == 'blocked' then
        if e[3] == 'succeeded' then
          x.need = x.need - 1
          if x.need == 0 then
            x.at = MS
            bump(d, x, 'ready', 'task.ready', '', false)
            enqueue(d, x)
          else
            redis.call('HSET', TASKS, d, cjson.encode(x))
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
  if redis.call('SCARD', OPEN) > 0 then return end
  local r = get_run(t.run)
  if not r then return end
  if r.state == 'cancelling' then
    ended_without_answer(t.run, r, r.want, r.word, r.why)
  elseif active(r) then
    if last.kind == 'step' then
      local failure = cjson.decode(completion).error
      if type(failure) ~= 'table' then failure = {type = 'handler_error', message = 'the step ended without a reason'} end
      -- Only commit ends a step well, so a step that merely says so has decided nothing.
      if status == 'succeeded' then status = 'failed' end
      ended_without_answer(t.run, r, status, failure.type, failure.message)
    else
      post_step(t.run, r)
    end
  end
end

-- An attempt ended without a result: try again after delay ms (0 or more), unless attempts or time are used up.
local function again(id, t, delay, why)
  if t.cxl or t.att >= t.max or MS + delay > t.dl then return false end
  redis.call('ZREM', LEASE, id)
  redis.call('ZADD', WAIT, n2s(MS + delay), id)
  bump(id, t, 'delayed', 'task.retried', splice('error', why, {attempt = t.att, delay_ms = delay}), true)
  return true
end

-- Stops everything open in a run. Claimed tasks are told through their heartbeat, unless force: then they end now and
-- their workers find themselves fenced.
local function stop_run(run, r, force)
  for _, id in ipairs(redis.call('SMEMBERS', OPEN)) do
    local t = get(id)
    if t and not terminal(t) then
      if t.state == 'claimed' and t.kind ~= 'step' and not force then
        t.cxl = 1
        redis.call('HSET', TASKS, id, cjson.encode(t))
      else
        close(id, t, r.want, verdict(t, r.want, r.word, r.why))
      end
    end
  end
  if redis.call('SCARD', OPEN) == 0 then ended_without_answer(run, r, r.want, r.word, r.why) end
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
