-- Registers a version of a capability: version, artifact, list, pointer and announcements, or nothing.
local op, name, sha, tenant = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local manifest, artifact, source = ARGV[5], ARGV[6], ARGV[7]
local exam, verdict, wanted, expected = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local signature, key, public, created, by = ARGV[12], ARGV[13], ARGV[14], ARGV[15], ARGV[16]
local policy, allowed = ARGV[17], ARGV[18] -- what let it have its grants without a person, for the audit; '' for nothing
local share, counts = ARGV[19] or '', ARGV[20] -- of the runs that use it beside the active version, see try(); '' to be that one
local unasked = ARGV[21] == '1'                -- it is offered as a matter of course, unless something else was decided

local done = replayed()
if done then return done end

local id = name .. '|' .. sha
local known = header(id)
local current = redis.call('HGET', KEYS[5], name) or ''
if known and known.op == op then return answer(id, current) end

local owner = redis.call('HGET', KEYS[7], name)
if owner and owner ~= tenant then
  return refuse('CONFLICT', name .. ' belongs to tenant ' .. owner .. '; register under another name')
end
if expected ~= '*' and current ~= expected and current ~= sha then
  return refuse('CONFLICT', 'the active version of ' .. name .. ' is ' .. (current == '' and 'none' or current)
    .. ', not ' .. (expected == '' and 'none' or expected) .. '; look at it and decide again')
end
local standing = verdict
if standing == '' and known then standing = known.exam end
if wanted == '1' and standing == 'failed' then
  return refuse('EXAM', name .. ' failed its exam; only a version that did not fail can be active')
end
if known and known.revoked then
  return refuse('REVOKED', name .. ' ' .. sha .. ' was revoked and stays so; register changed content')
end
local no = unfit(key, created)
if no then return no end

-- A signature speaks of the exam it came with: without one it is no signature for a version that has one.
local fits = exam ~= '' or not redis.call('HGET', KEYS[4], id)
local signs = signature ~= '' and fits and (not known or stores_exam(id, exam) or unsigned(id, known))

if not known then
  redis.call('HSET', KEYS[3], id, manifest)
  if artifact ~= '' then redis.call('HSETNX', KEYS[8], artifact, source) end
  redis.call('HSETNX', KEYS[7], name, tenant)
  redis.call('RPUSH', KEYS[9], sha)
  known = {state = 'draft', created = digits(NOW), artifact = artifact, exam = '', op = op, tenant = tenant}
  if signs then sign(id, known, signature, key, public, by) end
  put(id, known)
  announce('registered', name, sha, 'draft', '')
elseif signs then
  redis.call('HSET', KEYS[3], id, manifest)  -- same content; the signature speaks of this text, provenance included
  sign(id, known, signature, key, public, by)
  put(id, known)
  announce('signed', name, sha, known.state, key)
end
if stores_exam(id, exam) then examine(name, sha, known, exam, verdict) end
local trial = share ~= '' and current ~= ''
if unasked and decided(name, known) then wanted = '0' end
if wanted == '1' and known.state ~= 'active' and not (trial and known.state == 'canary') then
  if trial then
    try(name, sha, known, share, counts, 'registered')
  else
    activate(name, sha, known, 'registered')
  end
  if policy ~= '' then audit('approved', id, known.signer or '', policy, 'by rule, without a person', allowed) end
end
return answer(id, current)
