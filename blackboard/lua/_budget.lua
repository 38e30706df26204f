-- Shared by the scripts of budgets. Keys, all under one hash tag:
--   1 holds   HASH  reservation -> {s: held | settled | lapsed, a: amounts, l: its levels, k: ms it is remembered when over}
--   2 due     ZSET  reservation by when its lease ends or, once it is over, when it is forgotten
--   3 levels  SET   levels that were given a budget
--   then one pot for each level of the call, a HASH of max:<unit> (the budget), r:<unit> (reserved now), s:<unit> (spent),
--   x:<unit> (spent without having been reserved) and l:<unit> (reserved by processes that fell silent). In a pot whose level
--   ends in /day all but max carry the day since the epoch in front, as in 20779:s:tokens. A pot whose level has a pace also
--   has pace:c (reservations at a time), pace:r and pace:b (reservations in a second, in bursts of), calls (held now) and full
--   (when, in us, the bucket of the rate will be full again); pace:t (tokens in a minute), refilled (when, in us, the bucket of
--   a minute's tokens will be full again) and w:<reservation> (one that waits for tokens: when it came in us, how many it
--   needs, and until when in ms its place is kept).
-- Amounts are whole numbers in strings of at most 14 digits: nothing is ever rounded.
local HOLDS, DUE, LEVELS = KEYS[1], KEYS[2], KEYS[3]
local UNITS = {'tokens', 'money', 'milliseconds', 'fabrications'}
local DAYS_KEPT = 7
local MINUTE_US = 60000000
local T = redis.call('TIME')
local US = T[1] * 1000000 + T[2]
local NOW = math.floor(US / 1000)
local TODAY = math.floor(NOW / 86400000)

local function n2s(x) return string.format('%.0f', x) end
local function hold(id)
  local raw = redis.call('HGET', HOLDS, id)
  if raw then return cjson.decode(raw) end
end
local function put(id, h, at)
  redis.call('HSET', HOLDS, id, cjson.encode(h))
  redis.call('ZADD', DUE, n2s(at), id)
end
local function window(level)
  if string.sub(level, -4) == '/day' then return n2s(TODAY) .. ':' end
  return ''
end
local function pot(key)
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end
local function add(key, field, n)
  if n ~= 0 then redis.call('HINCRBY', key, field, n2s(n)) end
end
-- A reservation is over: one call less at a level with a pace.
local function let_go(key, l)
  if l.p then redis.call('HINCRBY', key, 'calls', -1) end
end
-- What a reservation holds of a unit: a call without a price holds no money.
local function reserved(h, u) return tonumber(h.a[u]) or 0 end
