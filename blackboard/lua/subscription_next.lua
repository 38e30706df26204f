-- A consumer of a subscription is done with something, holds the rest longer, and gets more; see subscribe.lua.
-- own: name, its id, consumer, ms of its lease (0: it leaves), how many it wants at most (0: none), marks of what is done.
-- Returns 1 if it held something until now, else 0; 1 if there may be more at once; then, of each it holds, its mark, the position
-- up to which events are gone ('' if it is an event) and its fields.
-- Events of a run are handed out in order: while one is held by a consumer, no other gets a later one.
local SUBS = KEYS[FIXED + 1]
local PAGE, ASIDE, CONSUMERS = 200, 256, 32
local name, id, consumer = ARGV[A], ARGV[A + 1], ARGV[A + 2]
local lease, most = tonumber(ARGV[A + 3]), tonumber(ARGV[A + 4])
local made = redis.call('HGET', SUBS, name)
local d = made and cjson.decode(made)
if not d or d.id ~= id then return refuse('UNKNOWN', 'subscription ' .. name .. ' was removed') end
local raw = redis.call('HGET', SUBS, name .. ':')
local s = cjson.decode(raw)

local function parts(position)
  local ms, seq = string.match(position, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function earlier(a, b)
  local ams, aseq = parts(a[1])
  local bms, bseq = parts(b[1])
  if ams ~= bms then return ams < bms end
  return aseq < bseq
end
local function mark(one) return one[3] and one[1] .. '!' or one[1] end
local function put_back(held) for _, one in ipairs(held) do s.back[#s.back + 1] = one end end

local done, known = {}, s.con[consumer] and 1 or 0
for i = A + 5, #ARGV do done[ARGV[i]] = true end
local function left(held)
  local kept = {}
  for _, one in ipairs(held) do
    if done[mark(one)] then s.done = s.done + 1 else kept[#kept + 1] = one end
  end
  return kept
end
local mine = left(known == 1 and s.con[consumer].h or {})
s.back = left(s.back)                      -- a consumer that came too late, and nobody else has it yet
s.con[consumer] = nil

local busy, others = {}, 0
for other, has in pairs(s.con) do
  if has.t <= MS then
    put_back(has.h)
    s.con[other] = nil
  else
    others = others + 1
    for _, one in ipairs(has.h) do busy[one[2]] = true end
  end
end
busy[''] = nil
if lease == 0 then
  put_back(mine)
  mine = {}
end
table.sort(s.back, earlier)

local function field(fields, wanted)
  for i = 1, #fields, 2 do
    if fields[i] == wanted then return fields[i + 1] end
  end
end
local function meant(kind)
  for _, one in ipairs(d.kinds) do
    if one == kind then return true end
    if string.sub(one, -1) == '*' and string.sub(kind, 1, #one - 1) == string.sub(one, 1, -2) then return true end
  end
  return false
end
local theirs = {}
local function of_tenant(run)
  if not d.tenant then return true end
  if theirs[run] == nil then
    if string.find(run, ':', 1, true) then
      theirs[run] = run == 'tenant:' .. d.tenant
    else
      local r = get_run(run)
      theirs[run] = r and r.tenant == d.tenant or false
    end
  end
  return theirs[run]
end

local more, seen = 0, {}
if lease > 0 and most > 0 and others < CONSUMERS then
  local aside = {}
  for _, one in ipairs(s.back) do
    if #mine < most and not busy[one[2]] then
      mine[#mine + 1] = one
    else
      aside[#aside + 1] = one
    end
  end
  s.back = aside
  if #mine < most then
    local page = redis.call('XRANGE', FEED, s.after, '+', 'COUNT', PAGE + 1)
    local first = 1
    if page[1] and s.after ~= '0-0' then
      if page[1][1] == s.after then
        first = 2
      else
        mine[1 + #mine] = {s.after, '', page[1][1]}
        s.lost = s.lost + 1
      end
    end
    if #page > PAGE then more = 1 end
    for i = first, #page do
      local at, fields = page[i][1], page[i][2]
      local run = field(fields, 'run')
      if meant(field(fields, 'type')) and of_tenant(run) then
        if busy[run] then
          if #s.back >= ASIDE then
            more = 0
            break
          end
          s.back[#s.back + 1] = {at, run}
        else
          if #mine >= most then
            more = 1
            break
          end
          mine[#mine + 1] = {at, run}
          seen[at] = fields
        end
      end
      s.after = at
    end
  end
end

local out = {known, more}
if #mine > 0 then
  if most > 0 then
    for _, one in ipairs(mine) do
      local fields = {}
      if not one[3] then
        local found = seen[one[1]] or (redis.call('XRANGE', FEED, one[1], one[1])[1] or {})[2]
        if found then
          fields = found
        else
          one[2], one[3] = '', one[1]
          s.lost = s.lost + 1
        end
      end
      out[#out + 1] = mark(one)
      out[#out + 1] = one[3] or ''
      out[#out + 1] = fields
    end
  end
  s.con[consumer] = {t = MS + lease, h = mine}
end
local now = cjson.encode(s)
if now ~= raw then redis.call('HSET', SUBS, name .. ':', now) end
return out
