-- Moves a version to another state; an empty sha means the active version of the name.
local op, name, sha, state, expected = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local exam, verdict, reason = ARGV[6], ARGV[7], ARGV[8]
local signature, key, public, created, by = ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local verb, who = ARGV[14], ARGV[15]       -- of the decision behind it, for the audit; '' for none
local detail, forgiven = ARGV[16], ARGV[17] -- of that decision; how many failures are not held against what becomes active
local share, counts = ARGV[18] or '', ARGV[19] -- of what becomes a canary, see try()
local trial = ARGV[20] or ''               -- what a canary must be in, for a decision about that; '' for any
WHO, BEHALF = who, ARGV[21]
local MOVES = {
  draft = {examined = true, active = true, retired = true, canary = true},
  examined = {active = true, retired = true, canary = true},
  active = {retired = true},
  retired = {active = true, canary = true},
  canary = {active = true, retired = true},
}

local done = replayed()
if done then return done end

local current = redis.call('HGET', KEYS[5], name) or ''
if redis.call('HEXISTS', KEYS[7], name) == 0 then return refuse('UNKNOWN', 'no capability ' .. name) end
if sha == '' then
  if current == '' then return answer(name .. '|', '') end
  sha = current
end
local id = name .. '|' .. sha
local h = header(id)
if not h then return refuse('UNKNOWN', 'no version ' .. sha .. ' of ' .. name) end
if expected ~= '*' and current ~= expected and not (state == 'active' and current == sha) then
  return refuse('CONFLICT', 'the active version of ' .. name .. ' is ' .. (current == '' and 'none' or current)
    .. ', not ' .. (expected == '' and 'none' or expected) .. '; look at it and decide again')
end
if trial ~= '' and h.trial ~= trial then
  return refuse('CONFLICT', name .. ' ' .. sha .. ' is not the canary any more that it was; look at it and decide again')
end
if state == 'canary' and h.state ~= 'canary' and share == '' then
  return refuse('ALONE', name .. ' has no other active version that ' .. sha .. ' could be compared with')
end
if state == 'canary' and current == '' then
  return refuse('CONFLICT', 'no version of ' .. name .. ' is active that ' .. sha .. ' could be compared with')
end
local standing = verdict
if standing == '' then standing = h.exam end
if (state == 'active' or state == 'canary') and standing == 'failed' then
  return refuse('EXAM', name .. ' failed its exam; only a version that did not fail can be ' .. state)
end
if state == 'examined' and standing ~= 'passed' then
  return refuse('EXAM', name .. ' has no passed exam; give the record of one')
end
if h.state ~= state and not MOVES[h.state][state] then
  return refuse('STATE', name .. ' ' .. sha .. ' is ' .. h.state .. ' and cannot become ' .. state)
end
if state ~= 'retired' and h.revoked then
  return refuse('REVOKED', name .. ' ' .. sha .. ' was revoked and stays so; register changed content')
end
local no = unfit(key, created)
if no then return no end

local mine = BEHALF == 'person' and h.retired_for ~= 'person'
if state == 'retired' and (h.state ~= 'retired' or h.replaced or mine) then
  -- The removal comes first: a server that is full lets a script that starts with it run to its end.
  if current == sha then redis.call('HDEL', KEYS[5], name) end
  if h.state == 'canary' then no_canary(name, sha) end
  end_canary(name, h, '', sha .. ' is retired')
  retired(h)
  h.replaced = nil
  put(id, h)
  withdraw(name, sha)
  announce('retired', name, sha, 'retired', reason)
  if verb ~= '' then audit(verb, id, h.signer or '', who, reason, detail) end
end
if stores_exam(id, exam) then
  if signature ~= '' then sign(id, h, signature, key, public, by) end
  examine(name, sha, h, exam, verdict)
end
if state == 'examined' and h.state == 'draft' then
  h.state = 'examined'
  put(id, h)
  announce('examined', name, sha, 'examined', standing)
end
if state == 'canary' and h.state ~= 'canary' then
  try(name, sha, h, share, counts, reason)
  if verb ~= '' then audit(verb, id, h.signer or '', who, reason, detail) end
end
if state == 'active' and h.state ~= 'active' then
  if forgiven ~= '' then h.forgiven = forgiven end
  activate(name, sha, h, reason)
  if verb ~= '' then audit(verb, id, h.signer or '', who, reason, detail) end
end
return answer(id, current)
