-- Shared by the catalog's scripts. Keys of one catalog, all under one hash tag:
--   1 rev        STRING  revision: server milliseconds, strictly growing, changed by every change
--   2 header     HASH    name|sha -> small JSON of strings: what may change about a version
--   3 manifest   HASH    name|sha -> manifest JSON, never decoded here; only its provenance ever changes, with a signature
--   4 exam       HASH    name|sha -> exam record JSON, never decoded here
--   5 active     HASH    name -> sha of the one version that is offered
--   6 events     STREAM  every change, entry id <revision>-<n>
--   7 names      HASH    name -> tenant that owns it
--   8 artifacts  HASH    SHA-256 -> source
--   9 versions:<name>  LIST    shas in the order of registration
--  10 op:<operation>   STRING  the reply of a call that was carried out, kept while it may be sent again
--  11 signatures  HASH    name|sha -> signature, a small JSON of strings, never decoded here
--  12 trust       HASH    key id -> small JSON: public key, who trusted it, what of it is revoked
--  13 audit       STREAM  what people decided: keys, versions, grants, tokens, and by whom
--  14 tokens      HASH    token id -> small JSON of strings: name, hash of its secret, what it may, until when
--  15 uses        STREAM  what code used of what it was granted; tokens that were refused
--  16 permits     HASH    id -> small JSON of strings: a request that would carry secrets, and a person's answer to it;
--                         facts|id -> what is asked, JSON, never decoded here
--  17 served      HASH    name|tenant -> needs the capability served that tenant, newest first; see lessons()
--  18 lessons     ZSET    name|tenant by the revision of its needs, name by that of its example needs; stays when they are gone, so
--                         that readers hear of it
--  19 taught      HASH    run -> the fields of `served` that have a need of it
--  20 learnt      HASH    rev, sum: of the lessons; calibration: JSON, never decoded here; its revision
--  21 peers       HASH    peer|process -> small JSON of strings: whether the peer answers that process, and until when this holds
--  22 illustrated HASH    name -> when (ms), US, and example needs a model wrote for it: JSON, never decoded here
--  23 illustrating HASH   name -> until when (ms; 0: has ended), US, who writes or wrote them, US, the hash of what from
--  24 withdrawn   HASH    name -> sha of the version a person retired so that none is active; gone when one is
local T = redis.call('TIME')
local NOW = T[1] * 1000 + math.floor(T[2] / 1000)
local KEEP_REPLY_SECONDS = '3600'
local SKEW_MS = 600000
local TRAIL = 100000                       -- entries that audit and uses keep, about

local function digits(n) return string.format('%.0f', n) end
local function refuse(code, detail) return redis.error_reply(code .. ' | ' .. detail) end

local function replayed()
  local done = redis.call('GET', KEYS[10])
  if done then return cjson.decode(done) end
end

local function header(id)
  local raw = redis.call('HGET', KEYS[2], id)
  if raw then return cjson.decode(raw) end
end

-- A change is announced once the revision is set; REVISION is nil until then.
local REVISION, ANNOUNCED = nil, 0
local function revise()
  local last = tonumber(redis.call('GET', KEYS[1]) or '0')
  REVISION = digits(math.max(last + 1, NOW))
  redis.call('SET', KEYS[1], REVISION)
end

local function store(id, h) redis.call('HSET', KEYS[2], id, cjson.encode(h)) end
local function put(id, h)
  h.updated = digits(NOW)
  store(id, h)
end

local function announce(verb, name, sha, state, reason)
  if not REVISION then revise() end
  ANNOUNCED = ANNOUNCED + 1
  redis.call('XADD', KEYS[6], REVISION .. '-' .. digits(ANNOUNCED), 'verb', verb, 'name', name, 'sha', sha,
    'state', state, 'reason', reason, 'at', digits(NOW))
end

-- Who decides what a script does, and on whose behalf: a person's, that of reflection, a peer's; empty for who merely registers.
local WHO, BEHALF = '', ''
-- The header of a version that is not offered any more, by a decision: retired_by says whose, retired_for on whose behalf.
local function retired(h)
  h.state, h.share, h.trial, h.retired_by, h.retired_for = 'retired', nil, nil, nil, nil
  if WHO ~= '' then h.retired_by, h.retired_for = WHO, BEHALF end
end
-- A person has taken the last version of a name that was offered away: the name itself is not to be offered again unasked.
local function withdraw(name, sha)
  if BEHALF == 'person' and redis.call('HEXISTS', KEYS[5], name) == 0 then redis.call('HSET', KEYS[24], name, sha) end
end
-- Whether a version, whose header is h if it is there, is not to be offered by whoever offers it as a matter of course: a person has
-- withdrawn the name, or a person or reflection has decided about this version. What lives in a program that offers it comes back
-- where another version merely took its place, since the program can do nothing else.
local function decided(name, h)
  if redis.call('HEXISTS', KEYS[24], name) == 1 then return true end
  if not h or h.state == 'active' then return false end
  local away = h.retired_for == 'person' or h.retired_for == 'reflection'
  return h.state == 'canary' or (h.state == 'retired' and away and not (h.replaced and h.artifact == ''))
end

-- The header of an active version names its canary; that of the canary has share, of the runs, and trial: when it began, and how
-- many tasks of the active version and of itself had succeeded and failed until then.
-- The active version of a name, whose header is h, has no canary any more but the one to `keep`: that one was something else
-- already. The caller writes h.
local function end_canary(name, h, keep, reason)
  local sha = h.canary
  h.canary = nil
  if not sha or sha == keep then return end
  local id = name .. '|' .. sha
  local other = header(id)
  retired(other)
  put(id, other)
  announce('retired', name, sha, 'retired', reason)
end
-- The same, for a version that is the canary itself and becomes something else.
local function no_canary(name, sha)
  local active = redis.call('HGET', KEYS[5], name)
  local h = active and header(name .. '|' .. active)
  if h and h.canary == sha then
    h.canary = nil
    store(name .. '|' .. active, h)
  end
end
-- Lets a share of the runs use a version that may take the place of the active one; in place of a canary there was before.
local function try(name, sha, h, share, counts, reason)
  local active = redis.call('HGET', KEYS[5], name)
  local old = header(name .. '|' .. active)
  end_canary(name, old, sha, 'superseded by ' .. sha)
  old.canary = sha
  store(name .. '|' .. active, old)
  h.state, h.share, h.trial, h.replaced = 'canary', share, digits(NOW) .. ' ' .. counts, nil
  h.retired_by, h.retired_for = nil, nil
  put(name .. '|' .. sha, h)
  announce('tried', name, sha, 'canary', reason)
end

-- Makes a version the active one of its name; the version that was active is retired, and remembers that it was replaced.
local function activate(name, sha, h, reason)
  local id = name .. '|' .. sha
  local previous = redis.call('HGET', KEYS[5], name) or ''
  h.share, h.trial = nil, nil
  if previous ~= '' and previous ~= sha then
    local old = header(name .. '|' .. previous)
    end_canary(name, old, sha, 'superseded by ' .. sha)
    retired(old)
    old.replaced = '1'
    put(name .. '|' .. previous, old)
    announce('retired', name, previous, 'retired', 'superseded by ' .. sha)
  end
  redis.call('HSET', KEYS[5], name, sha)
  redis.call('HDEL', KEYS[24], name)
  h.state, h.replaced, h.retired_by, h.retired_for = 'active', nil, nil, nil
  put(id, h)
  announce('activated', name, sha, 'active', reason)
end

local function stores_exam(id, exam) return exam ~= '' and redis.call('HGET', KEYS[4], id) ~= exam end

-- Stores an exam record; a draft that passed becomes examined.
local function examine(name, sha, h, exam, verdict)
  redis.call('HSET', KEYS[4], name .. '|' .. sha, exam)
  h.exam = verdict
  if verdict == 'passed' and h.state == 'draft' then h.state = 'examined' end
  put(name .. '|' .. sha, h)
  announce('examined', name, sha, h.state, verdict)
end

local function audit(verb, subject, key, by, reason, detail)
  redis.call('XADD', KEYS[13], 'MAXLEN', '~', TRAIL, '*', 'verb', verb, 'subject', subject, 'key', key, 'by', by,
    'reason', reason, 'at', digits(NOW), 'detail', detail or '')
end

local function trusted(key)
  local raw = redis.call('HGET', KEYS[12], key)
  if raw then return cjson.decode(raw) end
end

-- Whether what a key signed at a time is revoked: from `after` on and before `before`, empty without an end.
local function revoked(entry, at)
  for _, span in ipairs(entry.revoked or {}) do
    if at >= tonumber(span.after) and (span.before == '' or at < tonumber(span.before)) then return true end
  end
  return false
end

-- Why a key may not sign now, or nil: it is not trusted, is revoked, or the time it states is not the time it is.
-- A board that trusts no key yet takes the first one.
local function unfit(key, created)
  if key == '' then return nil end
  local off = tonumber(created) - NOW
  if math.abs(off) > SKEW_MS then
    return refuse('CLOCK', 'the signature states a time ' .. digits(off / 1000) .. ' s off the server\'s; '
      .. 'set the clocks right and sign again')
  end
  local entry = trusted(key)
  if not entry then
    if redis.call('HLEN', KEYS[12]) == 0 then return nil end
    return refuse('UNTRUSTED', 'this board does not trust the signing key ' .. key)
  end
  if revoked(entry, NOW) then return refuse('REVOKED', 'the signing key ' .. key .. ' is revoked on this board') end
end

-- Whether a version has no signature, or none that still counts.
local function unsigned(id, h)
  if not h.signer or redis.call('HEXISTS', KEYS[11], id) == 0 then return true end
  local entry = trusted(h.signer)
  return not entry or revoked(entry, tonumber(h.signed))
end

local function trust(key, public, by, note)
  redis.call('HSET', KEYS[12], key, cjson.encode({public = public, added = digits(NOW), by = by, note = note}))
  audit('trusted', key, key, by, note)
end

-- Stores a signature; the caller writes the header.
local function sign(id, h, signature, key, public, by)
  if redis.call('HLEN', KEYS[12]) == 0 then trust(key, public, by, 'first use') end
  redis.call('HSET', KEYS[11], id, signature)
  h.signer, h.signed = key, digits(NOW)
  audit('signed', id, key, by, '')
end

-- Needs a capability served a tenant, newest first. Stored as text: records end in RS, their parts are divided by US, and the
-- need comes last; it has neither, and is never decoded.
local function lessons(field)
  local found = {}
  for text in string.gmatch(redis.call('HGET', KEYS[17], field) or '', '([^\30]+)\30') do
    local at, run, digest = string.match(text, '^(%d+)\31([^\31]*)\31(%x+)\31')
    found[#found + 1] = {at = at, run = run, digest = digest, text = text}
  end
  return found
end

local function learnt(name) return tonumber(redis.call('HGET', KEYS[20], name) or '0') end

-- What is kept of a field has changed. `sum` of the revisions tells a reader that it holds what is here and not what a server
-- lost in a failover.
local function told_anew(field)
  local old = tonumber(redis.call('ZSCORE', KEYS[18], field) or '0')
  local revision = math.max(learnt('rev') + 1, NOW)
  redis.call('ZADD', KEYS[18], digits(revision), field)
  redis.call('HSET', KEYS[20], 'rev', digits(revision), 'sum', digits((learnt('sum') - old + revision) % 2 ^ 52))
end

-- Who writes the example needs of a capability, or wrote them last: until when (0: has ended), who, from what.
local function writer(name)
  local till, who, from = string.match(redis.call('HGET', KEYS[23], name) or '', '^(%d+)\31([^\31]*)\31(.*)$')
  return till and tonumber(till), who, from
end

local function written(name, who) redis.call('HSET', KEYS[23], name, '0\31' .. who .. '\31') end

-- Stores the needs of a field, or nothing when they are as they were.
local function teach(field, kept)
  local before, after, runs, text = lessons(field), {}, {}, ''
  for _, one in ipairs(kept) do
    after[one.run] = true
    text = text .. one.text .. '\30'
  end
  if text == (redis.call('HGET', KEYS[17], field) or '') then return false end
  if text == '' then
    redis.call('HDEL', KEYS[17], field)
  else
    redis.call('HSET', KEYS[17], field, text)
  end
  told_anew(field)
  for _, one in ipairs(before) do runs[one.run] = true end
  for run in pairs(after) do runs[run] = true end
  for run in pairs(runs) do
    local listed = ''
    for other in string.gmatch(redis.call('HGET', KEYS[19], run) or '', '[^\30]+') do
      if other ~= field then listed = listed .. other .. '\30' end
    end
    if after[run] then listed = listed .. field .. '\30' end
    if listed == '' then
      redis.call('HDEL', KEYS[19], run)
    else
      redis.call('HSET', KEYS[19], run, listed)
    end
  end
  return true
end

-- The reply, remembered so that the same operation sent again answers the same and does nothing.
local function answer(id, previous)
  local changed = '0'
  if REVISION then changed = '1' end
  local reply = {changed, REVISION or redis.call('GET', KEYS[1]) or '0', redis.call('HGET', KEYS[2], id) or '', previous, id}
  redis.call('SET', KEYS[10], cjson.encode(reply), 'EX', KEEP_REPLY_SECONDS)
  return reply
end
