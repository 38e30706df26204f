-- A run's entries that may trigger: behind _board, _entry_board, _activations and _entries.
local function unwatched(version)
  if not RUN.ag then return nil end
  local now = redis.call('HGET', TRIGGERS, '') or '0'
  if now ~= version then return refuse('TRIGGERS', now) end
end
-- Whether what was made from an entry may be pointless now: it was amended or retracted, or it contradicts others.
local function shakes(h)
  if h.ver > 1 then return true end
  for _, link in ipairs(h.links or {}) do
    if link.rel == 'contradicts' then return true end
  end
end
-- Topics of open requests begin so: while other work of the run goes on, they are looked at as something is written on these.
local ASKED = {requests = true, bids = true, awards = true}
-- A fact about an entry is told to the agenda, if the run has one, in the script that writes it.
local function noticed(id, h, conf, keys)
  if active(RUN) and shakes(h) then shake(id, h, ARGV[4]) end
  if not RUN.ag then return end
  local a = agenda_of() or new_agenda()
  a.f = a.f + 1
  local word = string.match(h.topic, '^[^.]+')
  if word == 'requests' then a.rq = a.f end
  if (a.busy > 0 or a.ctl) and shakes(h) then a.pr = a.f end    -- or something that is being picked from what was read before
  if string.find(keys, '%S') then
    local src = {e = id, ev = h.ver, topic = h.topic, conf = conf, hop = 1}
    local task = ARGV[4] ~= '' and get(ARGV[4])
    local above = task and task.act and redis.call('HGET', AGENDA, n2s(task.act))
    if above then
      above = cjson.decode(above)
      src.hop, src.up, src.chain = above.hop + 1, above.q, above.chain or {}
      src.chain[#src.chain + 1] = above.tr
    end
    local rest = activate(a, OWNER, src, keys)
    if string.find(rest, '%S') then redis.call('RPUSH', MORE, cjson.encode(src) .. '\n' .. rest) end
  end
  keep_agenda(a)
  if active(RUN) then attend(OWNER, RUN, a, a.rq == a.f or a.beside and ASKED[word]) end
end
