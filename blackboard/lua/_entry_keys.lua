-- Shared by the scripts of entries. A scope's entries, all on one shard: the log is the truth, the rest is an index of it.
-- KEYS   1 tasks  HASH   of the board: whose lease a writing task must hold    7 vers  HASH  topic -> facts written on it
--        2 runs   HASH   of the board: a run that is over is written no more   8 ops   HASH  operation -> fingerprint, reply
--        3 ev     STREAM feed of the shard                                     9 index ZSET  topic, place, id of what is live
--        4 topics HASH   pattern -> schema; '' -> version of them all         10 links ZSET  target, relation, id of what is live
--        5 log    STREAM of the run, or of the scope                          11 ends  ZSET  id by the end of its time to live
--        6 heads  HASH   entry id -> header
-- ARGV   1 owner: the run's id, or the scope with a colon in it, then for a write 2 operation, 3 fingerprint, 4 task or '',
--        5 fence, 6 version the topic must have or ''; then the script's own. Contents never pass through cjson.
-- A header: topic, ver, first, pos (the fact with its content), last, state; exp, taint and links where there are any. Of a
-- lease: fence (version of the fact that took it), till (its end in ms), says (version that said what the entry says).
local TASKS, RUNS, FEED, SCHEMAS, LOG, HEADS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local VERS, OPS, INDEX, LINKS, ENDS = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local OWNER = ARGV[1]
local FEED_LENGTH = 100000
local T = redis.call('TIME')
local MS = T[1] * 1000 + math.floor(T[2] / 1000)
local function n2s(x) return string.format('%.0f', x) end
local function refuse(code, detail) return redis.error_reply(code .. ' | ' .. detail) end
-- Nothing triggers here: these scripts write in scopes without an agenda, or nothing.
local function unwatched() end
local function noticed() end
