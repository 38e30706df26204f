-- Shared by the scripts of schedules, and of standing watches, whose keys have the same shape. Their keys, all on the first shard of the board:
--   1 defs   HASH  name -> definition (JSON, never decoded here)
--   2 state  HASH  name -> how far it is (JSON, never decoded here; every writing differs from every other)
--   3 due    ZSET  name by the time at which a sweeper has something to do for it, ms
-- All decisions are made by the caller from one consistent reading, and take effect only where that reading still holds.
local DEFS, STATE, DUE = KEYS[1], KEYS[2], KEYS[3]
local T = redis.call('TIME')
local MS = T[1] * 1000 + math.floor(T[2] / 1000)
local function n2s(x) return string.format('%.0f', x) end
