-- Put before everything else of `complete`, so that what ends most often pays for none of it: a call that succeeds in its first
-- attempt, to which nothing has happened that its worker did not see. own, behind those of `complete`: the header as its claim
-- had it, which has none of the fields that make an end more than what is written here, and capability|version or ''; neither
-- for any other end. Does what finish() does, to the byte but for the order of fields; a test holds the two against each other.
do
  local CLAIMED, GOING = '{"state":"claimed","ver":2,', '{"state":"running","ver":1,'
  local a, k = 1 + ARGV[1], 17 + 3 * ARGV[1]
  local id, seen = ARGV[a + 1], ARGV[a + 7]
  local took, tokens = string.match(ARGV[a + 6] or '', '^(%d+) (%d+)$')
  if took and seen and redis.call('HGET', KEYS[1], id) == seen and string.sub(seen, 1, #CLAIMED) == CLAIMED then
    local run = string.match(id, '^(.*)/')
    local r = redis.call('HGET', KEYS[9], run)
    -- A run that goes on in its first version is a call, and nobody paused or cancelled it. Nor does a quota count it: a claim
    -- under quotas leaves another header, and one whose quotas are gone belongs to a run that was written anew with them.
    if r and string.sub(r, 1, #GOING) == GOING then
      local function tell(kind, subject, version, data)
        local name = subject .. ':' .. version
        local at = redis.call('XADD', KEYS[k + 1], '*', 'type', kind, 'subject', subject, 'id', name, 'data', data)
        redis.call('XADD', KEYS[7], 'MAXLEN', '~', '100000', '*', 'type', kind, 'subject', subject, 'id', name, 'run', run,
          'at', at, 'data', '')
      end
      local T = redis.call('TIME')
      redis.call('ZREM', KEYS[4], id)
      redis.call('ZREM', KEYS[6], 't:' .. id, 'r:' .. run)
      redis.call('HDEL', KEYS[2], id)
      redis.call('HDEL', KEYS[11], id)
      redis.call('SREM', KEYS[k + 2], id)
      local subject = ARGV[a + 8]
      if subject ~= '' then
        redis.call('HINCRBY', KEYS[12], subject .. '|succeeded', 1)
        redis.call('HINCRBY', KEYS[14], 's:' .. subject .. '|n', 1)
        redis.call('HINCRBY', KEYS[14], 's:' .. subject .. '|ms', took)
        redis.call('HINCRBY', KEYS[14], 's:' .. subject .. '|tokens', tokens)
      end
      redis.call('HSET', KEYS[1], id, '{"state":"succeeded","ver":3,' .. string.sub(seen, #CLAIMED + 1))
      tell('task.completed', id, '3', ARGV[a + 4])
      redis.call('HSET', KEYS[9], run, '{"state":"succeeded","ver":2,"ended":' .. T[1]
        .. string.format('%03.0f', math.floor(T[2] / 1000)) .. ',' .. string.sub(r, #GOING + 1))
      tell('run.completed', run, '2', '{"rounds":0,"status":"succeeded"}')
      return {3, 1}
    end
  end
end
