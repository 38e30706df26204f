-- own: most that are not rated yet, most of the best that are, from which parked one on, most of these. Read only: header of the
-- agenda, how many tasks of the run are open, then kind (fresh, best, parked) and header of each; last, of kind uncompared, what
-- control has to compare with triggers.
local out = {redis.call('HGET', AGENDA, '') or '', redis.call('SCARD', OPEN)}
local function rows(kind, low, high, from, most)
  if tonumber(most) == 0 then return end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', WAITING, low, high, 'LIMIT', from, most)) do
    out[#out + 1] = kind
    out[#out + 1] = redis.call('HGET', AGENDA, n2s(tonumber(member)))
  end
end
rows('fresh', '-inf', '-inf', 0, ARGV[A])
rows('best', '(-inf', '(+inf', 0, ARGV[A + 1])
rows('parked', '+inf', '+inf', ARGV[A + 2], ARGV[A + 3])
local head = redis.call('LINDEX', MORE, 0)
local uncompared = head and string.match(head, '^([^\n]*)\n%?$')
if uncompared then
  out[#out + 1] = 'uncompared'
  out[#out + 1] = uncompared
end
return out
