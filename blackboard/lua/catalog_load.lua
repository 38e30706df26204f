-- Reads all that is needed to decide whether a version may run, as it is at one moment; an empty sha means the active one.
-- {sha, header, manifest, exam, signature, trust entry of the signing key, source}; nothing where there is no such version.
local name, sha = ARGV[1], ARGV[2]
if sha == '' then sha = redis.call('HGET', KEYS[5], name) or '' end
local id = name .. '|' .. sha
local raw = sha ~= '' and redis.call('HGET', KEYS[2], id)
if not raw then return {} end
local h = cjson.decode(raw)
local trust = h.signer and redis.call('HGET', KEYS[12], h.signer) or ''
local source = h.artifact and h.artifact ~= '' and redis.call('HGET', KEYS[8], h.artifact) or ''
return {
  sha, raw, redis.call('HGET', KEYS[3], id) or '', redis.call('HGET', KEYS[4], id) or '',
  redis.call('HGET', KEYS[11], id) or '', trust, source,
}
