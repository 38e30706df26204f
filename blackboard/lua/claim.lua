-- own: worker, nonce, lease ms, how many. The key after the lanes remembers this worker's last claim: a call that is sent
-- again because its reply was lost gets the same tasks, not more of them. A last row without an id says in how many ms work
-- that a quota holds back may be had. How many is 0: only what the call with this nonce has taken, and it takes nothing when
-- it comes after this one.
local LAST = LOG
local nonce, want = ARGV[A + 1], tonumber(ARGV[A + 3])
local till, NOW = n2s(MS + tonumber(ARGV[A + 2])), n2s(US)
local LOOK = 64                            -- tenants, and capabilities set aside, that are looked at for one with room
local MOVES = 200                          -- tasks that are set aside at the most before a call returns
local BUSY_MS = 1000                       -- after which room for another attempt is looked for again

local TOGETHER = 200                       -- tasks that are read, and written, by one command

-- What was taken and is not written yet: id, header and event of each task, and the task.
local ids, headers, events, tasks = {}, {}, {}, {}
local out, taken, mine = {}, 0, {}
local function hand(id, t, header, event)
  local n = #ids + 1
  ids[n], headers[n], events[n], tasks[n] = id, header, event, t
  taken, mine[id] = taken + 1, true
end
-- Tells of what was taken, with what is kept beside the headers.
local function describe()
  local data, kept = redis.call('HMGET', DATA, unpack(ids)), redis.call('HMGET', CKPT, unpack(ids))
  for i, id in ipairs(ids) do
    local row = {id, headers[i], data[i] or 'null', kept[i] or ''}
    for _, d in ipairs(tasks[i].deps or {}) do
      row[#row + 1] = d
      row[#row + 1] = redis.call('HGET', OUT, d) or 'null'
    end
    out[#out + 1] = row
  end
end
local last = redis.call('GET', LAST)
if last then
  local parts = cjson.decode(last)
  if parts[1] == nonce then
    for i = 2, #parts, 2 do
      local t = get(parts[i])
      if t and t.state == 'claimed' and t.fence == parts[i + 1] then hand(parts[i], t, cjson.encode(t)) end
    end
    if taken > 0 then describe() end
    return out
  end
end

-- The id at the end of a member of an agenda.
local find, sub = string.find, string.sub
local function named(member)
  local at = 0
  for _ = 1, 3 do at = find(member, '\0', at + 1, true) end
  return sub(member, at + 1)
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
local function members(lane, tenant, n)
  return redis.call('ZRANGEBYLEX', lane.r, '[' .. tenant .. '\0', '(' .. tenant .. '\2', 'LIMIT', 0, n)
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
    local id = m and named(m)
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
-- Writes what was taken from a lane. The first write grows something: a full server refuses new work and takes ends.
local gone, served = {}, {}
local function write(name, lane)
  if not gone[1] then return end
  if ids[1] then
    local turns = {}
    for tenant, head in pairs(served) do
      turns[#turns + 1] = name .. ':' .. tenant
      turns[#turns + 1] = n2v(head.vt) .. ' ' .. n2s(head.turn)
    end
    redis.call('HSET', VT, unpack(turns))
  end
  redis.call('ZREM', lane.r, unpack(gone))
  for tenant, head in pairs(served) do
    if members(lane, tenant, 1)[1] then redis.call('ZADD', lane.q, n2v(head.vt), tenant) else redis.call('ZREM', lane.q, tenant) end
  end
  if ids[1] then
    local leases, written = {}, {}
    for i, id in ipairs(ids) do
      leases[2 * i - 1], leases[2 * i] = till, id
      written[2 * i - 1], written[2 * i] = id, headers[i]
      memory[#memory + 1] = id
      memory[#memory + 1] = tasks[i].fence
    end
    redis.call('ZADD', LEASE, unpack(leases))
    redis.call('HSET', TASKS, unpack(written))
    for i, id in ipairs(ids) do emit('task.claimed', id, tasks[i].new and '2' or tasks[i].ver, tasks[i].run, events[i], false) end
    describe()
  end
  gone, served, ids, headers, events, tasks = {}, {}, {}, {}, {}, {}
end
-- The tenant's next task, its id and its header: what waits is read ahead, but where quotas decide it depends on what was taken
-- before.
local function next_of(lane, head)
  if LIMITED then
    local member = pick(lane, head.tenant)
    local id = member and named(member)
    return member, id, id and redis.call('HGET', TASKS, id)
  end
  if not head.waiting then
    head.waiting, head.at, head.ids = members(lane, head.tenant, math.min(want - taken, TOGETHER)), 0, {}
    for i, member in ipairs(head.waiting) do head.ids[i] = named(member) end
    head.texts = head.ids[1] and redis.call('HMGET', TASKS, unpack(head.ids)) or {}
  end
  local at = head.at + 1
  head.at = at
  return head.waiting[at], head.ids[at], head.texts[at]
end
-- What a claim needs of a new task's header, without decoding it, which costs as much as all the rest of a claim; nil where it
-- stands elsewhere or was escaped, or a quota counts the task.
local PLAIN = '^"slot":(%d+),"kind":"([^"\\]*)","cap":"([^"\\]*)","key":"([^"\\]*)","run":"([^"\\]*)","prio":(%d+),()'
local function glance(header)
  if LIMITED or sub(header, 1, #NEW) ~= NEW then return nil end
  local slot, kind, cap, key, run, prio, at = string.match(header, PLAIN, #NEW + 1)
  if not kind or find(header, '"cxl":', at, true) then return nil end
  local version
  if sub(header, at, at + 10) == '"version":"' then
    version = string.match(header, '^([^"\\]*)",', at + 11)
    if not version then return nil end
  end
  return {new = true, state = 'ready', ver = 1, att = 0, fence = '0', kind = kind, cap = cap, key = key, run = run,
    version = version, prio = tonumber(prio), slot = tonumber(slot)}
end
-- The header of a task after a claim. Of a new one only the beginning is written anew: encoding costs more than all the rest.
local WORKER = sub(cjson.encode({ARGV[A]}), 2, -2)
local CLAIMED = '{"state":"claimed","ver":2,"att":1,"fence":"'
local function claimed(t, header)
  if LIMITED or sub(header, 1, #NEW) ~= NEW then return cjson.encode(t) end
  return CLAIMED .. t.fence .. '","owner":' .. WORKER .. ',"clm":1,' .. sub(header, #NEW + 1)
end
-- What is told of a claim.
local function event(t)
  if not t.new then
    return cjson.encode({attempt = t.att, worker = t.owner, fence = t.fence, capability = t.cap, kind = t.kind, key = t.key,
      version = t.version})
  end
  return '{"attempt":1,"worker":' .. WORKER .. ',"fence":"' .. t.fence .. '","capability":"' .. t.cap .. '","kind":"' .. t.kind
    .. '","key":"' .. t.key .. (t.version and '","version":"' .. t.version or '') .. '"}'
end
-- Takes one task of the tenant; what is on its agenda and not to be begun is dropped on the way: an agenda by an earlier version
-- may have a task twice, and what was stopped before it began ends with the next sweep. False: it has none to give.
local function take(name, lane, head)
  while true do
    local member, id, text = next_of(lane, head)
    if not member then
      write(name, lane)
      head.waiting = nil
      local more = members(lane, head.tenant, 1)[1]
      if not more then redis.call('ZREM', lane.q, head.tenant) end
      if not more or LIMITED then return false end
    else
      gone[#gone + 1] = member
      local t = text and (glance(text) or cjson.decode(text))
      local good = t and t.state == 'ready' and not t.cxl and not mine[id]
      if good then
        local weight = quota('tenant:' .. head.tenant)
        head.turn = head.turn or select(2, clocks(name, head.tenant))
        head.vt = head.vt + 1 / (weight and weight.w or 1)
        head.turn = math.max(head.turn, t.slot and t.slot - (9 - t.prio) * HEAD_START or 0)
        served[head.tenant] = head
        if LIMITED then
          for _, subject in ipairs({'board', 'tenant:' .. head.tenant, 'capability:' .. t.cap}) do spend(subject, t) end
        end
        t.park = nil
        t.fence = t.fence == '0' and NOW or n2s(math.max(tonumber(t.fence) + 1, US))
        t.att, t.clm = t.att + 1, (t.clm or 0) + 1
        t.ver, t.state, t.owner = t.ver + 1, 'claimed', ARGV[A]
        hand(id, t, claimed(t, text), event(t))
      end
      if LIMITED or #gone >= TOGETHER then write(name, lane) end
      if good then return true end
    end
  end
end
-- One task of the lane, from the tenant with the least virtual time among those with room. Of the first tenants, as many as
-- there are tasks wanted, one always has the least.
local function serve(name, lane)
  local heads = lane.heads
  if not heads then
    local found = redis.call('ZRANGE', lane.q, 0, (LIMITED and LOOK or math.min(want - taken, TOGETHER)) - 1, 'WITHSCORES')
    heads = {}
    for i = 1, #found, 2 do heads[#heads + 1] = {tenant = found[i], vt = tonumber(found[i + 1])} end
  end
  if not heads[1] then
    write(name, lane)
    -- Tokens left by work that was taken without sleeping would wake sleepers for nothing; work to come rings anew.
    redis.call('DEL', lane.b)
    return false
  end
  if not LIMITED then
    lane.heads = heads
    local head, at = heads[1], 1
    if not take(name, lane, head) then
      lane.heads = nil
      return true
    end
    while heads[at + 1] and (heads[at + 1].vt < head.vt or heads[at + 1].vt == head.vt and heads[at + 1].tenant < head.tenant) do
      heads[at] = heads[at + 1]
      at = at + 1
    end
    heads[at] = head
    if not ids[1] then lane.heads = nil end  -- a part was written: as many tenants as are wanted now are looked at again
    return true
  end
  for _, head in ipairs(heads) do
    if room('tenant:' .. head.tenant) and take(name, lane, head) then return true end
  end
  -- Whoever is held back by a quota of its own earns nothing meanwhile, and makes room for the look at the next ones.
  if #heads == LOOK and redis.call('ZCARD', lane.q) > LOOK then
    for _, head in ipairs(heads) do
      if redis.call('ZSCORE', lane.q, head.tenant) then redis.call('ZADD', lane.q, n2v(heads[LOOK].vt + 1), head.tenant) end
    end
    wait(0)
  end
  return false
end
for i = 1, NL do
  local name, lane = ARGV[1 + i], LANES[ARGV[1 + i]]
  while taken < want and room('board') and serve(name, lane) do end
  write(name, lane)
end
if taken > 0 or want == 0 then redis.call('SET', LAST, cjson.encode(memory), 'PX', 600000) end
if soon and taken < want then out[#out + 1] = {'', n2s(soon)} end
return out
