-- own: worker, nonce, lease ms, how many. The key after the lanes remembers this worker's last claim: a call that is sent
-- again because its reply was lost gets the same tasks, not more of them. A last row without an id says in how many ms work
-- that a quota holds back may be had. How many is 0: only what the call with this nonce has taken, and it takes nothing when
-- it comes after this one.
local LAST = LOG
local nonce, want = ARGV[A + 1], tonumber(ARGV[A + 3])
local till = n2s(MS + tonumber(ARGV[A + 2]))
local LOOK = 64                            -- tenants, and capabilities set aside, that are looked at for one with room
local MOVES = 200                          -- tasks that are set aside at the most before a call returns
local BUSY_MS = 1000                       -- after which room for another attempt is looked for again

local function describe(id, t, header)
  local row = {id, header, redis.call('HGET', DATA, id) or 'null', redis.call('HGET', CKPT, id) or ''}
  for _, d in ipairs(t.deps or {}) do
    row[#row + 1] = d
    row[#row + 1] = redis.call('HGET', OUT, d) or 'null'
  end
  return row
end
local out = {}
local last = redis.call('GET', LAST)
if last then
  local parts = cjson.decode(last)
  if parts[1] == nonce then
    for i = 2, #parts, 2 do
      local t = get(parts[i])
      if t and t.state == 'claimed' and t.fence == parts[i + 1] then out[#out + 1] = describe(parts[i], t, cjson.encode(t)) end
    end
    return out
  end
end

local soon
local function wait(ms)
  if not soon or ms < soon then soon = ms end
end
local function room(subject)
  local q = quota(subject)
  if not q then return true end
  local ms = 0
  if q.c and used('n:', subject) >= q.c then ms = BUSY_MS
  elseif q.r then ms = early('t:', subject, q.r, q.b) end
  if ms > 0 then wait(ms) end
  return ms == 0
end
local function spend(subject, t)
  local q = quota(subject)
  if not q then return end
  if q.c then
    redis.call('HINCRBY', USE, 'n:' .. subject, 1)
    t.held = t.held or {}
    t.held[#t.held + 1] = subject
  end
  if q.r then pour('t:', subject, q.r) end
end

local memory, moves = {nonce}, 0
local function members(lane, tenant)
  return redis.call('ZRANGEBYLEX', lane.r, '[' .. tenant .. '\0', '(' .. tenant .. '\2', 'LIMIT', 0, 2)
end
-- The tenant's next task whose capability has room. Tasks whose capability has none are set aside behind the tenant's others,
-- each once, in a range of their own for each capability, so that they keep nobody waiting.
local function pick(lane, tenant)
  local from = '[' .. tenant .. '\1'
  for _ = 1, LOOK do
    local m = redis.call('ZRANGEBYLEX', lane.r, from, '(' .. tenant .. '\2', 'LIMIT', 0, 1)[1]
    if not m then break end
    local cap = string.sub(string.match(m, '^[^%z]*'), #tenant + 2)
    if room('capability:' .. cap) then return m end
    from = '[' .. tenant .. '\1' .. cap .. '\1'
  end
  while moves < MOVES do
    local m = redis.call('ZRANGEBYLEX', lane.r, '[' .. tenant .. '\0', '(' .. tenant .. '\1', 'LIMIT', 0, 1)[1]
    local id = m and string.match(m, '%z([^%z]*)$')
    local t = id and get(id)
    if not t or t.state ~= 'ready' or room('capability:' .. t.cap) then return m end
    t.park = 1
    redis.call('HSET', TASKS, id, cjson.encode(t))
    redis.call('ZREM', lane.r, m)
    redis.call('ZADD', lane.r, 0, agenda(id, t))
    moves = moves + 1
  end
  wait(0)
end
-- Takes one task of the tenant; what is on its agenda and not to be begun is dropped on the way. False: it has none to give.
local function take(name, lane, tenant, vt)
  while true do
    local two = LIMITED and {pick(lane, tenant)} or members(lane, tenant)
    local member, more = two[1], two[2]
    if not member then
      if not more and not members(lane, tenant)[1] then redis.call('ZREM', lane.q, tenant) end
      return false
    end
    local id = string.match(member, '%z([^%z]*)$')
    local t = get(id)
    local good = t and t.state == 'ready' and not t.cxl  -- what was stopped before it began ends with the next sweep
    if good then  -- the first write grows something: a full server refuses new work and takes ends
      local weight, served = quota('tenant:' .. tenant), t.slot and t.slot - (9 - t.prio) * HEAD_START or 0
      local _, turn = clocks(name, tenant)
      vt = vt + 1 / (weight and weight.w or 1)
      redis.call('HSET', VT, name .. ':' .. tenant, n2v(vt) .. ' ' .. n2s(math.max(turn, served)))
    end
    redis.call('ZREM', lane.r, member)
    if LIMITED then more = members(lane, tenant)[1] end
    if more then redis.call('ZADD', lane.q, n2v(vt), tenant) else redis.call('ZREM', lane.q, tenant) end
    if good then
      for _, subject in ipairs({'board', 'tenant:' .. tenant, 'capability:' .. t.cap}) do spend(subject, t) end
      t.park = nil
      t.fence = n2s(math.max(tonumber(t.fence) + 1, US))
      t.att, t.clm = t.att + 1, (t.clm or 0) + 1
      t.owner = ARGV[A]
      redis.call('ZADD', LEASE, till, id)
      local header = bump(id, t, 'claimed', 'task.claimed', cjson.encode({attempt = t.att, worker = t.owner, fence = t.fence,
        capability = t.cap, kind = t.kind, key = t.key, version = t.version}), false)
      memory[#memory + 1] = id
      memory[#memory + 1] = t.fence
      out[#out + 1] = describe(id, t, header)
      return true
    end
  end
end
-- One task of the lane, from the tenant with the least virtual time among those with room.
local function serve(name, lane)
  local heads = redis.call('ZRANGE', lane.q, 0, LIMITED and LOOK - 1 or 0, 'WITHSCORES')
  if not heads[1] then
    -- Tokens left by work that was taken without sleeping would wake sleepers for nothing; work to come rings anew.
    redis.call('DEL', lane.b)
    return false
  end
  for i = 1, #heads, 2 do
    if room('tenant:' .. heads[i]) and take(name, lane, heads[i], tonumber(heads[i + 1])) then return true end
  end
  if not LIMITED then return redis.call('ZCARD', lane.q) > 0 end
  -- Whoever is held back by a quota of its own earns nothing meanwhile, and makes room for the look at the next ones.
  if #heads == 2 * LOOK and redis.call('ZCARD', lane.q) > LOOK then
    for i = 1, #heads, 2 do
      if redis.call('ZSCORE', lane.q, heads[i]) then
        redis.call('ZADD', lane.q, n2v(tonumber(heads[#heads]) + 1), heads[i])
      end
    end
    wait(0)
  end
  return false
end
for i = 1, NL do
  while #out < want and room('board') and serve(ARGV[1 + i], LANES[ARGV[1 + i]]) do end
end
if #out > 0 or want == 0 then redis.call('SET', LAST, cjson.encode(memory), 'PX', 600000) end
if soon and #out < want then out[#out + 1] = {'', n2s(soon)} end
return out
