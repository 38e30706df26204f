-- Behind _board and what names HEADS and LINKS: tasks that were made from entries, by decisions that a model planned, and are
-- pointless once one of these was retracted, amended or contradicted.
local GRACE = 15000                        -- ms that a running attempt is given to stop

-- Whether a task was made from an entry: it was named (made), or it is the result of a task it waited for.
local function rests_on(t, entry)
  for _, one in ipairs(t.made or {}) do
    if one == entry then return true end
  end
  for _, d in ipairs(t.deps or {}) do
    local x = get(d)
    if x and x.ent and t.run .. '/e/' .. x.ent == entry then return true end
  end
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
  for _, id in ipairs(redis.call('SMEMBERS', OPEN)) do
    local t = get(id)
    if t and t.ent and not t.act and not t.cxl and id ~= by and rests_on(t, entry) then forsake(id, t, why) end
  end
end
local function said(h, entry)
  if h.state == 'live' then return 'the entry it was made from was amended, to version ' .. n2s(h.says or h.ver) .. ': ' .. entry end
  return 'the entry it was made from was ' .. h.state .. ': ' .. entry
end
-- A fact about an entry: what rests on it, or on what it contradicts, stops. by: the task that wrote it, whose own it is.
local function shake(entry, h, by)
  if h.ver > 1 then stop_what_rests_on(entry, by, said(h, entry)) end
  for _, link in ipairs(h.links or {}) do
    if link.rel == 'contradicts' and h.state == 'live' then
      stop_what_rests_on(link.to, by, 'the entry it was made from is contradicted by ' .. entry)
    end
  end
end
-- How something a task is made from was lost after a position, at which a decision had read it; nil when nothing was.
local function lost_since(made, seen)
  local function since(pos) return place(pos) > seen end
  for _, entry in ipairs(made) do
    local j = redis.call('HGET', HEADS, entry)
    local h = j and cjson.decode(j)
    -- A lease takes nothing back: what an entry says is of its last fact with a content.
    if h and (h.state ~= 'live' or (h.says or h.ver) > 1) and since(h.state == 'live' and h.pos or h.last) then return said(h, entry) end
    local from = entry .. '\0contradicts\0'
    for _, text in ipairs(redis.call('ZRANGEBYLEX', LINKS, '[' .. from, '(' .. entry .. '\0contradicts\1')) do
      local other = string.sub(text, #from + 1)
      local x = redis.call('HGET', HEADS, other)
      if x and since(cjson.decode(x).first) then return 'the entry it was made from is contradicted by ' .. other end
    end
  end
end
