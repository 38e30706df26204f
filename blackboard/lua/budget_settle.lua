-- Ends a reservation with what was really spent, which is nothing when it is given back. ARGV reservation, the amounts, then
-- the names of the levels whose pots are given. {'settled' | 'unknown', level, unit, spent beyond what was reserved, ...}
local id = ARGV[1]
local h = hold(id)
if not h then return {'unknown'} end
if h.s == 'settled' then return {'settled'} end

-- Gives back what a call did not use of the tokens it took of a minute's, or takes what it used beyond them.
local function correct(key, l)
  local rate, refilled = unpack(redis.call('HMGET', key, 'pace:t', 'refilled'))
  if not (l.t and rate and refilled) then return end
  local us = math.ceil((tonumber(ARGV[2]) - l.t) * MINUTE_US / tonumber(rate))
  redis.call('HSET', key, 'refilled', n2s(math.max(tonumber(refilled), US) + us))
end

local keys = {}
for i = 6, #ARGV do keys[ARGV[i]] = KEYS[i - 2] end
-- The removal comes first: a server that is full lets a script that starts with it run to its end.
redis.call('ZREM', DUE, id)
local reply = {'settled'}
for _, l in ipairs(h.l) do
  local key = keys[l.n]
  if key and redis.call('EXISTS', key) == 1 then
    if h.s == 'held' then let_go(key, l) end
    correct(key, l)
    for u, unit in ipairs(UNITS) do
      local held, spent = reserved(h, u), tonumber(ARGV[1 + u])
      if h.s == 'held' then
        add(key, l.w .. 'r:' .. unit, -held)
      else
        add(key, l.w .. 'l:' .. unit, -held)
        held = 0
      end
      add(key, l.w .. 's:' .. unit, spent)
      if spent > held then
        add(key, l.w .. 'x:' .. unit, spent - held)
        reply[#reply + 1] = l.n
        reply[#reply + 1] = unit
        reply[#reply + 1] = n2s(spent - held)
      end
    end
  end
end
h.s = 'settled'
put(id, h, NOW + h.k)
return reply
