-- What triggers make: activations on a run's agenda. Behind _board and the keys of _entry_board; RUN is the run's header.
-- An activation: q (its number), tr, cap, v, lane, prio, cost, sec (of its trigger), e, ev, topic, conf (of the entry that made
-- it), at, hop (how deep its chain is), up (the activation whose task wrote the entry), chain (triggers above it), k (the how
-- manieth of its capability), st, rt and sv (rating, and the strategy it is from), mn (how well its entry answers to what its
-- trigger is about), pin, ops, task, why.
local BATCH = 500                          -- activations of one call; what is left is made by the picks that follow

local function place_of(q) return string.format('%010.0f', q) end
local function record(a, run, kind, data)
  a.ver = a.ver + 1
  emit('agenda.' .. kind, run .. '/agenda', n2s(a.ver), run, data, true)
end
local function guarded(key, src)
  if src.hop > RUN.ag.hop then
    return 'its chain would be ' .. n2s(src.hop) .. ' activations deep, of at most ' .. n2s(RUN.ag.hop)
  end
  local times = 0
  for _, one in ipairs(src.chain or {}) do
    if one == key then times = times + 1 end
  end
  if times >= RUN.ag.rep then
    return 'ping-pong: this trigger stands ' .. n2s(times) .. ' times in the chain that led to the entry, of at most ' .. n2s(RUN.ag.rep)
  end
end
-- Makes the activations of an entry's triggers, at most BATCH. src: e, ev, topic, conf, hop, up, chain. Gives back the keys
-- that are left.
local function activate(a, run, src, keys)
  local made, from = {}, 1
  while #made < BATCH do
    local first, last = string.find(keys, '%S+', from)
    if not first then break end
    local key = string.sub(keys, first, last)
    from = last + 1
    local raw = redis.call('HGET', TRIGGERS, 't:' .. key)
    local d = raw and cjson.decode(raw)
    if d and (d.tenant == '*' or d.tenant == RUN.tenant) then
      a.q = a.q + 1
      local x = {q = a.q, tr = key, cap = d.cap, v = d.v, lane = d.lane, prio = d.prio, cost = d.cost, sec = d.sec, e = src.e,
        ev = src.ev, topic = src.topic, conf = src.conf, at = MS, hop = src.hop, up = src.up, chain = src.chain,
        k = redis.call('HINCRBY', AGENDA, 'k:' .. d.cap, 1), why = guarded(key, src)}
      x.st = x.why and 'stopped' or 'waiting'
      redis.call('HSET', AGENDA, n2s(x.q), cjson.encode(x))
      if not x.why then
        redis.call('ZADD', WAITING, '-inf', place_of(x.q))
        a.w = a.w + 1
      end
      made[#made + 1] = {number = x.q, trigger = key, capability = x.cap, version = x.v, lane = x.lane, priority = x.prio,
        cost = x.cost, seconds = x.sec, serial = x.k, state = x.st, why = x.why}
    end
  end
  local rest = string.sub(keys, from)
  if made[1] then
    record(a, run, 'activated', cjson.encode({entry = src.e, entry_version = src.ev, topic = src.topic, confidence = src.conf,
      depth = src.hop, parent = src.up, chain = src.chain, activations = made, at_ms = MS,
      more = string.find(rest, '%S') and true or nil}))
  end
  return rest
end
-- Goes on where a batch ended. False when nothing is left to make; what is to be compared first stays.
local function more(a, run)
  local head = redis.call('LINDEX', MORE, 0)
  if not head then return false end
  local src, keys = string.match(head, '^([^\n]*)\n(.*)$')
  if keys == '?' then return true end
  local rest = activate(a, run, cjson.decode(src), keys)
  if string.find(rest, '%S') then redis.call('LSET', MORE, 0, src .. '\n' .. rest) else redis.call('LPOP', MORE) end
  return true
end
