-- Reserves the worst case at every level, or nothing. The same reservation again only moves its deadline.
-- ARGV reservation, lease ms, ms to remember it when it is over, number of levels, the amounts ('?': a price nobody knows),
-- the tokens it takes of a quota of tokens, then for each level its name, a budget for a pot that has none ('' where there is no
-- bound) and its lifetime in ms or 0.
-- {'held' | 'settled', level...} | {'free'} | {'refused', level, unit, amount, left, budget} | {'large', level, tokens, in a minute}
-- | {'wait', level, ms until there is room, ms after which to look whether it has come sooner}
local id, lease, kept, n = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST, WIDTH = 10, 6

local function answer(word, levels)
  local reply = {word}
  for _, l in ipairs(levels) do reply[#reply + 1] = l.n end
  return reply
end

local known = hold(id)
if known and known.s == 'settled' then return answer('settled', known.l) end
if known and known.s == 'held' then
  redis.call('ZADD', DUE, n2s(NOW + lease), id)
  return answer('held', known.l)
end

local amounts = {ARGV[5], ARGV[6], ARGV[7], ARGV[8]}
local levels, pots, keys = {}, {}, {}
local BUSY_MS = 250                        -- after which room for another call is looked for again
local SETTLED_MS, PLACE_MS = 1000, 5000    -- the same for tokens, which calls give back; how long a place in their line is kept
local wait
-- In how many ms the pace of a level admits another call (generic cell rate algorithm, ITU-T I.371), 0 for now.
local function early(p)
  if p['pace:c'] and tonumber(p.calls or '0') >= tonumber(p['pace:c']) then return BUSY_MS end
  if not p['pace:r'] then return 0 end
  local tokens = (tonumber(p['pace:b']) - 1) * 1000000 / tonumber(p['pace:r'])
  return math.max(0, math.ceil((tonumber(p.full or '0') - tokens - US) / 1000))
end
-- What a reservation took of a quota of tokens when it was made, if it was; once is enough.
local function taken(name)
  for _, l in ipairs(known and known.l or {}) do
    if l.n == name then return l.t end
  end
end
-- In how many ms a minute's tokens are enough for this call and for all that wait for them longer, 0 for now; and when it came.
local function short(p, wanted)
  local came, ahead = US, 0
  local mine = p['w:' .. id]
  if mine and tonumber(string.match(mine, '%d+$')) >= NOW then came = tonumber(string.match(mine, '^%d+')) end
  for field, place in pairs(p) do
    if string.sub(field, 1, 2) == 'w:' and field ~= 'w:' .. id then
      local since, tokens, kept_until = string.match(place, '^(%d+) (%d+) (%d+)$')
      if tonumber(kept_until) >= NOW and tonumber(since) < came then ahead = ahead + tonumber(tokens) end
    end
  end
  local full = math.max(tonumber(p.refilled or '0'), US) + (ahead + wanted) * MINUTE_US / tonumber(p['pace:t'])
  return math.max(0, math.ceil((full - MINUTE_US - US) / 1000)), came
end
local line
for i = 1, n do
  local at = FIRST + (i - 1) * WIDTH
  local name, p = ARGV[at], pot(KEYS[3 + i])
  local w, own, bound = window(name), {}, false
  keys[name] = KEYS[3 + i]
  for u, unit in ipairs(UNITS) do
    local most = p['max:' .. unit]
    if not most and ARGV[at + u] ~= '' then
      most = ARGV[at + u]
      own[unit] = most
    end
    if most then
      bound = true
      local left = tonumber(most) - tonumber(p[w .. 'r:' .. unit] or '0') - tonumber(p[w .. 's:' .. unit] or '0')
      local asked = tonumber(amounts[u])
      if not asked or (asked > 0 and asked > left) then
        return {'refused', name, unit, amounts[u], n2s(math.max(left, 0)), most}
      end
    end
  end
  local paced, tokens = p['pace:c'] or p['pace:r'] or p['pace:t'], taken(name)
  if paced then
    bound = true
    local ms = early(p)
    if ms > 0 and not (wait and wait[3] >= ms) then wait = {'wait', name, ms, ms} end
  end
  if p['pace:t'] and not tokens then
    tokens = tonumber(ARGV[9])
    if tokens > tonumber(p['pace:t']) then return {'large', name, ARGV[9], p['pace:t']} end
    local ms, came = short(p, tokens)
    line = {key = KEYS[3 + i], place = n2s(came) .. ' ' .. ARGV[9] .. ' ' .. n2s(NOW + PLACE_MS)}
    if ms > 0 and not (wait and wait[3] >= ms) then wait = {'wait', name, ms, math.min(ms, SETTLED_MS)} end
  end
  if bound then
    levels[#levels + 1] = {n = name, w = w, p = paced and 1 or nil, t = tokens}
    pots[#pots + 1] = {key = KEYS[3 + i], fields = p, own = own, lifetime = ARGV[at + 5]}
  end
end
if #levels == 0 then return {'free'} end
if wait then
  if line then redis.call('HSET', line.key, 'w:' .. id, line.place) end
  return {wait[1], wait[2], n2s(wait[3]), n2s(wait[4])}
end

local h = {s = 'held', a = amounts, l = levels, k = kept}
if known then
  for _, l in ipairs(known.l) do
    if keys[l.n] and redis.call('EXISTS', keys[l.n]) == 1 then
      for u, unit in ipairs(UNITS) do add(keys[l.n], l.w .. 'l:' .. unit, -reserved(known, u)) end
    end
  end
end
for i, p in ipairs(pots) do
  for field in pairs(p.fields) do
    local day = string.match(field, '^(%d+):')
    local place = string.sub(field, 1, 2) == 'w:'
    local left = place and (field == 'w:' .. id or tonumber(string.match(p.fields[field], '%d+$')) < NOW)
    if left or day and tonumber(day) < TODAY - DAYS_KEPT then redis.call('HDEL', p.key, field) end
  end
  for unit, most in pairs(p.own) do redis.call('HSET', p.key, 'max:' .. unit, most) end
  for u, unit in ipairs(UNITS) do add(p.key, levels[i].w .. 'r:' .. unit, reserved(h, u)) end
  if levels[i].p then redis.call('HINCRBY', p.key, 'calls', 1) end
  if p.fields['pace:r'] then
    redis.call('HSET', p.key, 'full',
      n2s(math.max(tonumber(p.fields.full or '0'), US) + 1000000 / tonumber(p.fields['pace:r'])))
  end
  if levels[i].t and not taken(levels[i].n) then
    redis.call('HSET', p.key, 'refilled', n2s(math.max(tonumber(p.fields.refilled or '0'), US)
      + math.ceil(levels[i].t * MINUTE_US / tonumber(p.fields['pace:t']))))
  end
  if p.lifetime ~= '0' then redis.call('PEXPIRE', p.key, p.lifetime) end
end
put(id, h, NOW + lease)
return answer('held', levels)
