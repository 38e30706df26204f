-- Reserves the worst case at every level, or nothing. The same reservation again only moves its deadline.
-- ARGV reservation, lease ms, ms to remember it when it is over, number of levels, the amounts ('?': a price nobody knows),
-- then for each level its name, a budget for a pot that has none ('' where there is no bound) and its lifetime in ms or 0.
-- {'held' | 'settled', level...} | {'free'} | {'refused', level, unit, amount, left, budget} | {'wait', level, ms}
local id, lease, kept, n = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST, WIDTH = 9, 6

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
local wait
-- In how many ms the pace of a level admits another call (generic cell rate algorithm, ITU-T I.371), 0 for now.
local function early(p)
  if p['pace:c'] and tonumber(p.calls or '0') >= tonumber(p['pace:c']) then return BUSY_MS end
  if not p['pace:r'] then return 0 end
  local tokens = (tonumber(p['pace:b']) - 1) * 1000000 / tonumber(p['pace:r'])
  return math.max(0, math.ceil((tonumber(p.full or '0') - tokens - US) / 1000))
end
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
  local paced = p['pace:c'] or p['pace:r']
  if paced then
    bound = true
    local ms = early(p)
    if ms > 0 and not (wait and wait[3] >= ms) then wait = {'wait', name, ms} end
  end
  if bound then
    levels[#levels + 1] = {n = name, w = w, p = paced and 1 or nil}
    pots[#pots + 1] = {key = KEYS[3 + i], fields = p, own = own, lifetime = ARGV[at + 5]}
  end
end
if #levels == 0 then return {'free'} end
if wait then return {wait[1], wait[2], n2s(wait[3])} end

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
    if day and tonumber(day) < TODAY - DAYS_KEPT then redis.call('HDEL', p.key, field) end
  end
  for unit, most in pairs(p.own) do redis.call('HSET', p.key, 'max:' .. unit, most) end
  for u, unit in ipairs(UNITS) do add(p.key, levels[i].w .. 'r:' .. unit, reserved(h, u)) end
  if levels[i].p then redis.call('HINCRBY', p.key, 'calls', 1) end
  if p.fields['pace:r'] then
    redis.call('HSET', p.key, 'full',
      n2s(math.max(tonumber(p.fields.full or '0'), US) + 1000000 / tonumber(p.fields['pace:r'])))
  end
  if p.lifetime ~= '0' then redis.call('PEXPIRE', p.key, p.lifetime) end
end
put(id, h, NOW + lease)
return answer('held', levels)
