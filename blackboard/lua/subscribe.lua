-- A durable subscription on one shard. Behind the fixed keys:
--   subs  HASH  name -> definition (JSON; id, kinds, tenant), name: -> how far it is:
--               after (position in the feed up to which events were handed out or not meant), con (consumer -> t, the end of its
--               lease, and h, what it holds), back (what is to be handed out before anything new), done, lost (how many)
--               : -> ids of those removed in the last hour, and when (ms): a call that made one of them and comes late makes none
-- What is held is {position, run}, or {position, '', position}: events between the two are gone.
-- own: name, definition, '1' to begin at the oldest event there is, '1' where the definition that is there counts. The definition.
local SUBS = KEYS[FIXED + 1]
local MOST = 256                           -- subscriptions of a board
local name, given = ARGV[A], ARGV[A + 1]
local there = redis.call('HGET', SUBS, name)
if there and (there == given or ARGV[A + 3] == '1') then return there end
if cjson.decode(redis.call('HGET', SUBS, ':') or '{}')[cjson.decode(given).id] then return given end
if not there and redis.call('HLEN', SUBS) >= 2 * MOST then
  return refuse('FULL', 'this board has ' .. MOST .. ' subscriptions; remove one')
end
local after = '0-0'
if ARGV[A + 2] ~= '1' then
  local newest = redis.call('XREVRANGE', FEED, '+', '-', 'COUNT', 1)
  if newest[1] then after = newest[1][1] end
end
redis.call('HSET', SUBS, name, given)
redis.call('HSET', SUBS, name .. ':', cjson.encode({after = after, con = {}, back = {}, done = 0, lost = 0}))
return given
