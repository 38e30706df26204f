-- Reads all that is needed to decide whether a version may run, as it is at one moment; an empty sha means the active one.
-- {sha, header, manifest, exam, signature, trust entry of the signing key, source}; nothing where there is no such version.
local name, sha = ARGV[1], ARGV[2]
if sha == '' then sha = redis.call('HGET', KEYS[5], name) or '' end
local id = name .. '|' .. sha
local raw = sha ~= '' and redis.call('HGET', KEYS[2], id)
if not raw then return {} end
-- Not decoded: a header that somebody damaged must reach the caller, who judges it.
local signer = string.match(raw, '"signer"%s*:%s*"(%x+)"')
local artifact = string.match(raw, '"artifact"%s*:%s*"(%x+)"')
local trust = signer and redis.call('HGET', KEYS[12], signer) or ''
local source = artifact and redis.call('HGET', KEYS[8], artifact) or ''
return {
  sha, raw, redis.call('HGET', KEYS[3], id) or '', redis.call('HGET', KEYS[4], id) or '',
  redis.call('HGET', KEYS[11], id) or '', trust, source,
}
