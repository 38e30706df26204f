-- Behind _board: keys of a run's agenda, as in _entry_board.
local TRIGGERS, WAITING, MORE = KEYS[FIXED + 3 * NL + 5], KEYS[FIXED + 3 * NL + 6], KEYS[FIXED + 3 * NL + 7]
local RUN
local function activation(q)
  local j = redis.call('HGET', AGENDA, q)
  if j then return cjson.decode(j) end
end
-- The best stands first, and of two alike the older.
local function score(rating) return string.format('%.17g', -tonumber(rating)) end
local function keep_activation(x) redis.call('HSET', AGENDA, n2s(x.q), cjson.encode(x)) end
