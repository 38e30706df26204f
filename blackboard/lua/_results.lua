-- Behind _board: what a task of a planned run comes to stands on the run's board as an entry, written by the script that ends
-- the task. A task that is entered so has ent (what the id of its entry ends with), made (entries it was made from, beside the
-- results of the tasks it waited for) and, where the run has an agenda, ag.
-- KEYS   at the end, of the run, heads, vers, index and links as in _entry_keys, triggers and more as in _entry_board, and schemas
-- ARGV   behind the script's own, where a worker reports it: facts (conf, taint, salt, sha256), content, or where in the
--        completion it stands (first and last byte), version of the triggers it was compared with, keys of those that fit, version
--        of the schemas it was judged by ('' where nobody judges it), which processes of an earlier version do not send.
local R = #KEYS - 7
local HEADS, VERS, FOUND, LINKS, TRIGGERS, MORE = KEYS[R + 1], KEYS[R + 2], KEYS[R + 3], KEYS[R + 4], KEYS[R + 5], KEYS[R + 6]
local SCHEMAS = KEYS[R + 7]
local MOST_LINKS, MOST_LABELS = 32, 256
local REPORT                               -- where in ARGV the report is, once reported() has looked

-- Guard: call before the first write. at: where in ARGV the report begins.
reported = function(t, at)
  REPORT = t.ent and ARGV[at] and at
  if not REPORT then return nil end
  local judged = ARGV[at + 4] or ''
  if judged ~= '' then
    local now = redis.call('HGET', SCHEMAS, '') or '0'
    if now ~= judged then return refuse('SCHEMAS', now) end
  end
  if not t.ag then return nil end
  local now = redis.call('HGET', TRIGGERS, '') or '0'
  if now ~= ARGV[at + 2] then return refuse('TRIGGERS', now) end
end
local function word(text) return string.sub(string.gsub(text, '[^%w_-]', '_'), 1, 64) end
-- A position so that it sorts as text, as the events of the board have it.
local function place(pos)
  local ms, seq = string.match(pos, '^(%d+)-(%d+)$')
  return string.format('%013.0f-%06.0f', tonumber(ms), tonumber(seq))
end
-- What it was made from, as links, and the labels of all of that and its own; nil for either where there are none.
local function origins(t, own)
  local links, taint, known = {}, {}, {}
  local function label(list)
    for _, one in ipairs(list or {}) do
      if not known[one] then
        known[one] = true
        taint[#taint + 1] = one
      end
    end
  end
  label(own)
  local mine = t.run .. '/e/'
  local function rest_on(entry)
    local head = redis.call('HGET', HEADS, entry)
    if not head and string.sub(entry, 1, #mine) == mine then return end
    if head then label(cjson.decode(head).taint) end
    if #links < MOST_LINKS then links[#links + 1] = {rel = 'derived_from', to = entry} end
  end
  for _, entry in ipairs(t.made or {}) do rest_on(entry) end
  for _, d in ipairs(t.deps or {}) do
    local x = get(d)
    if x and x.ent then rest_on(mine .. x.ent) end
  end
  if #taint > MOST_LABELS then taint = {'(many)'} end
  return links[1] and links or nil, taint[1] and taint or nil
end
-- Control makes the activations: they wait with those of an entry that fits more triggers than one script takes. Keys of '?':
-- nobody who understands what it says has compared it with them yet, so control does.
local function trigger(t, src, keys)
  local a = agenda_of() or new_agenda()
  a.f = a.f + 1
  if string.find(keys, '%S') then
    local above = t.act and redis.call('HGET', AGENDA, n2s(t.act))
    if above then
      above = cjson.decode(above)
      src.hop, src.up, src.chain = above.hop + 1, above.q, above.chain or {}
      src.chain[#src.chain + 1] = above.tr
    end
    redis.call('RPUSH', MORE, cjson.encode(src) .. '\n' .. keys)
    a.m = 1
  end
  keep_agenda(a)
end
enter = function(id, t, status, completion, failure)
  local won, facts, content = status == 'succeeded', {conf = 1, taint = t.src}, nil
  if REPORT then
    facts, content = cjson.decode(ARGV[REPORT]), ARGV[REPORT + 1]
    local from, to = string.match(content, '^@(%d+) (%d+)$')
    if from then content = string.sub(completion, tonumber(from), tonumber(to)) end
  elseif won then
    return                                 -- a process of an earlier version does not say which part of it is the result
  else
    content = cjson.encode({status = status, error = {type = failure and failure.type or 'unspecified',
      message = failure and failure.message or ''}})
  end
  local entry = t.run .. '/e/' .. t.ent
  local topic = (won and 'results.' or 'failures.') .. word(t.cap) .. '.' .. word(t.key)
  local links, taint = origins(t, facts.taint)
  local at = emit('entry.posted', entry, 1, t.run, splice('content', content, {topic = topic, version = 1,
    topic_version = redis.call('HINCRBY', VERS, topic, 1), confidence = facts.conf, taint = taint, links = links, at_ms = MS,
    author = {kind = 'task', name = t.cap, version = t.version, task = id, run = t.run, attempt = t.att},
    salt = facts.salt, sha256 = facts.sha256}), true)
  redis.call('HSET', HEADS, entry, cjson.encode({topic = topic, ver = 1, first = at, pos = at, last = at, state = 'live',
    taint = taint, links = links}))
  redis.call('ZADD', FOUND, 0, topic .. '\0' .. place(at) .. '\0' .. entry)
  for _, link in ipairs(links or {}) do redis.call('ZADD', LINKS, 0, link.to .. '\0' .. link.rel .. '\0' .. entry) end
  if t.ag then
    trigger(t, {e = entry, ev = 1, topic = topic, conf = facts.conf, hop = 1}, REPORT and ARGV[REPORT + 3] or REPORT and '' or '?')
  end
end
