-- Gives back what a process reserved that fell silent. ARGV reservation, then the names of the levels whose pots are given.
local id = ARGV[1]
local h, at = hold(id), redis.call('ZSCORE', DUE, id)
if not h or h.s ~= 'held' or not at or tonumber(at) > NOW then return 0 end
local keys = {}
for i = 2, #ARGV do keys[ARGV[i]] = KEYS[i + 2] end
redis.call('ZREM', DUE, id)
for _, l in ipairs(h.l) do
  local key = keys[l.n]
  if key and redis.call('EXISTS', key) == 1 then
    let_go(key, l)
    for u, unit in ipairs(UNITS) do
      add(key, l.w .. 'r:' .. unit, -reserved(h, u))
      add(key, l.w .. 'l:' .. unit, reserved(h, u))
    end
  end
end
h.s = 'lapsed'
put(id, h, NOW + h.k)
return 1
