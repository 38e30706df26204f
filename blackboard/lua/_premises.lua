-- Behind _board and what names HEADS and LINKS: tasks that were made from entries, by decisions that a model planned, and are
-- pointless once one of these, or what one of these is derived from, was retracted, amended or contradicted.
local FOLLOWED = 256                       -- entries that are followed along derived_from, the nearest first

-- An entry and what is derived from it, from what is, and so on, as a set.
local function follow(entry)
  local known, queue, i = {[entry] = true}, {entry}, 1
  while queue[i] and #queue < FOLLOWED do
    local from = queue[i] .. '\0derived_from\0'
    for _, text in ipairs(redis.call('ZRANGEBYLEX', LINKS, '[' .. from, '(' .. queue[i] .. '\0derived_from\1', 'LIMIT', 0, FOLLOWED)) do
      local other = string.sub(text, #from + 1)
      if not known[other] and #queue < FOLLOWED then
        known[other] = true
        queue[#queue + 1] = other
      end
    end
    i = i + 1
  end
  return known
end
-- Which of some entries a task was made from: it was named (made), or it is the result of a task it waited for.
local function premise(t, entries)
  for _, one in ipairs(t.made or {}) do
    if entries[one] then return one end
  end
  for _, d in ipairs(t.deps or {}) do
    local x = get(d)
    local one = x and x.ent and t.run .. '/e/' .. x.ent
    if one and entries[one] then return one end
  end
end
-- why: what became of the entry that was lost. made: the entry a task was made from.
local function worded(made, lost, why)
  if made == lost then return 'the entry it was made from ' .. why end
  return 'the entry it was made from, ' .. made .. ', is derived from one that ' .. why
end
-- Stops a task: a running attempt is told through its heartbeat, any other task ends with the next sweep, one of
-- a paused run with the first after it goes on.
local function forsake(id, t, why)
  t.cxl, t.word = 1, why
  if t.state == 'claimed' then
    redis.call('ZADD', DUE, n2s(math.min(t.dl, MS + GRACE)), 't:' .. id)
  elseif t.state ~= 'paused' then
    redis.call('ZADD', DUE, n2s(MS), 't:' .. id)
  end
  bump(id, t, t.state, 'task.cancelling', cjson.encode({reason = why}), true)
end
-- What an activation's task was made from is for its trigger to say.
local function stop_what_rests_on(entry, by, why)
  local entries
  for _, id in ipairs(redis.call('SMEMBERS', OPEN)) do
    local t = get(id)
    if t and t.ent and not t.act and not t.cxl and id ~= by then
      entries = entries or follow(entry)
      local made = premise(t, entries)
      if made then forsake(id, t, worded(made, entry, why)) end
    end
  end
end
local function said(h, entry)
  if h.state == 'live' then return 'was amended, to version ' .. n2s(h.says or h.ver) .. ': ' .. entry end
  return 'was ' .. h.state .. ': ' .. entry
end
-- A fact about an entry: what rests on it, or on what it contradicts, stops. by: the task that wrote it, whose own it is.
local function shake(entry, h, by)
  if h.ver > 1 then stop_what_rests_on(entry, by, said(h, entry)) end
  for _, link in ipairs(h.links or {}) do
    if link.rel == 'contradicts' and h.state == 'live' then
      stop_what_rests_on(link.to, by, 'is contradicted by ' .. entry)
    end
  end
end
-- How an entry was lost after a position, as far as it was; and its header.
local function gone(entry, since, far)
  local j = redis.call('HGET', HEADS, entry)
  local h = j and cjson.decode(j)
  -- A lease takes nothing back: what an entry says is of its last fact with a content. Nor does who takes away what others
  -- were derived from.
  if h and (h.state ~= 'live' or (h.says or h.ver) > 1) and not (far and h.state == 'taken')
    and since(h.state == 'live' and h.pos or h.last) then
    return said(h, entry), h
  end
  local from = entry .. '\0contradicts\0'
  for _, text in ipairs(redis.call('ZRANGEBYLEX', LINKS, '[' .. from, '(' .. entry .. '\0contradicts\1')) do
    local other = string.sub(text, #from + 1)
    local x = redis.call('HGET', HEADS, other)
    if x and since(cjson.decode(x).first) then return 'is contradicted by ' .. other, h end
  end
  return nil, h
end
-- How something a task is made from was lost after a position, at which a decision had read it; nil when nothing was.
local function lost_since(made, seen)
  local function since(pos) return place(pos) > seen end
  local known, queue, i = {}, {}, 1
  for _, entry in ipairs(made) do queue[#queue + 1] = {entry, entry} end
  while queue[i] do
    local entry, from = queue[i][1], queue[i][2]
    local why, h = gone(entry, since, entry ~= from)
    if why then return worded(from, entry, why) end
    for _, link in ipairs(h and h.links or {}) do
      if link.rel == 'derived_from' and not known[link.to] and #queue < FOLLOWED then
        known[link.to] = true
        queue[#queue + 1] = {link.to, from}
      end
    end
    i = i + 1
  end
end
