-- own: run, latest end (ms) that may be removed; the last keys: those of its entries, a copy of its log, and its blobs. Removes a run that is over:
-- at each call a bounded part of its tasks, and with the last of them its log, header and index entry, so that a reader finds
-- all of its history or none of it. The header remembers how far this got. Replies 1 when nothing is left, then the lanes of
-- its tasks.
local run = ARGV[A]
local r = get_run(run)
if not r then return {1} end
if active(r) or r.state == 'cancelling' then return refuse('LIVE', 'run ' .. run .. ' is ' .. r.state) end
if math.max(r.ended, r.imported or 0) > tonumber(ARGV[A + 1]) then return refuse('YOUNG', 'run ' .. run .. ' is kept for now') end
redis.call('ZREM', LEASE, '')     -- a first write that a full server still takes: this is what makes room
local at, seen, bytes, whole = r.cut or '-', 0, 0, false
local out, known = {0}, {}
while not whole and seen < 200 and bytes < 1048576 do
  local page = redis.call('XRANGE', LOG, at, '+', 'COUNT', 4)
  for _, entry in ipairs(page) do
    local f = {}
    for i = 1, #entry[2], 2 do
      f[entry[2][i]] = entry[2][i + 1]
      bytes = bytes + #entry[2][i + 1]
    end
    if f.type == 'task.posted' then
      local t = get(f.subject)
      if t and not known[t.lane] then
        known[t.lane] = true
        out[#out + 1] = t.lane
      end
      for _, key in ipairs({TASKS, DATA, OUT, CKPT, DEAD}) do redis.call('HDEL', key, f.subject) end
      redis.call('ZREM', DEADX, f.subject)
      redis.call('ZREM', LEASE, f.subject)
      redis.call('ZREM', WAIT, f.subject)
      redis.call('ZREM', DUE, 't:' .. f.subject)
    end
    at = '(' .. entry[1]
    seen = seen + 1
  end
  whole = #page < 4
end
if not whole then
  r.cut = at
  redis.call('HSET', RUNS, run, cjson.encode(r))
  return out
end
redis.call('UNLINK', LOG)
for i = FIXED + 3 * NL + 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('DEL', OPEN)
redis.call('DEL', TURNS)
redis.call('ZREM', DUE, 'r:' .. run)
redis.call('ZREM', INDEX, run)
redis.call('ZREM', DEADX, run)
redis.call('HDEL', DEAD, run)
redis.call('HDEL', RUNS, run)
out[1] = 1
return out
