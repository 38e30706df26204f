-- Put before everything else of `complete`, so that what ends most often pays for none of it: a call that succeeds, to which
-- nothing has happened that its worker did not see. own, behind those of `complete`: the header as its claim had it, which has
-- none of the fields that make an end more than what is written here ('' where it has), and capability|version or ''.
-- Does what finish() does; a test holds the two against each other.
do
  local lanes = tonumber(ARGV[1])
  local a, k = 1 + lanes, 17 + 3 * lanes
  local id, seen = ARGV[a + 1], ARGV[a + 7] or ''
  local run, r = string.match(id, '^(.*)/'), nil
  if seen ~= '' and redis.call('HGET', KEYS[1], id) == seen then r = redis.call('HGET', KEYS[9], run) end
  local going = r and string.find(r, '"state":"running"', 1, true)
  local first = going and (string.find(r, '"ver":1,', 1, true) or string.find(r, '"ver":1}', 1, true))
  if first and string.find(r, '"call":"', 1, true) and not string.find(r, '"held":', 1, true) then
    local function put(text, at, length, new) return string.sub(text, 1, at - 1) .. new .. string.sub(text, at + length) end
    local T = redis.call('TIME')
    local ms = string.format('%.0f', math.floor((T[1] * 1000000 + T[2]) / 1000))
    redis.call('ZREM', KEYS[4], id)
    redis.call('ZREM', KEYS[6], 't:' .. id, 'r:' .. run)
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[11], id)
    redis.call('SREM', KEYS[k + 2], id)
    local took, tokens = string.match(ARGV[a + 6], '^(%d+) (%d+)$')
    if ARGV[a + 8] ~= '' then
      redis.call('HINCRBY', KEYS[12], ARGV[a + 8] .. '|succeeded', 1)
      redis.call('HINCRBY', KEYS[14], 's:' .. ARGV[a + 8] .. '|n', 1)
      redis.call('HINCRBY', KEYS[14], 's:' .. ARGV[a + 8] .. '|ms', took)
      redis.call('HINCRBY', KEYS[14], 's:' .. ARGV[a + 8] .. '|tokens', tokens)
    end
    local _, at = string.find(seen, '"ver":', 1, true)
    local was = string.match(seen, '^%d+', at + 1)
    local ver = string.format('%.0f', was + 1)
    local header = put(seen, at + 1, #was, ver)
    header = put(header, string.find(header, '"state":"claimed"', 1, true), 17, '"state":"succeeded"')
    redis.call('HSET', KEYS[1], id, header)
    local function tell(kind, subject, version, data)
      local name = subject .. ':' .. version
      local entry = redis.call('XADD', KEYS[k + 1], '*', 'type', kind, 'subject', subject, 'id', name, 'data', data)
      redis.call('XADD', KEYS[7], 'MAXLEN', '~', '100000', '*', 'type', kind, 'subject', subject, 'id', name, 'run', run,
        'at', entry, 'data', '')
    end
    tell('task.completed', id, ver, ARGV[a + 4])
    r = put(r, first, 7, '"ver":2')
    r = put(r, string.find(r, '"state":"running"', 1, true), 17, '"state":"succeeded","ended":' .. ms)
    redis.call('HSET', KEYS[9], run, r)
    tell('run.completed', run, '2', '{"rounds":0,"status":"succeeded"}')
    return {tonumber(ver), 1}
  end
end
