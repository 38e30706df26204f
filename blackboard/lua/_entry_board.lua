-- Behind _board, whose keys come first: the keys of a run's entries, as in _entry_keys, and what they trigger.
--        then   schemas, heads, vers, ops, index, links, ends, then
--               triggers HASH  t:<key> -> trigger; c:<capability> -> revision and keys; '' -> version of them all
--               waiting  ZSET  activation by rating, the best first; -inf not rated yet, inf parked
--               more     LIST  entries whose last triggers have made no activations yet
local E = FIXED + 3 * NL + 4
local SCHEMAS, HEADS, VERS, OPS, INDEX = KEYS[E + 1], KEYS[E + 2], KEYS[E + 3], KEYS[E + 4], KEYS[E + 5]
local LINKS, ENDS, TRIGGERS, WAITING, MORE = KEYS[E + 6], KEYS[E + 7], KEYS[E + 8], KEYS[E + 9], KEYS[E + 10]
local OWNED = {}
for i = A, #ARGV do OWNED[i - A + 1] = ARGV[i] end
local ARGV = OWNED
local OWNER = ARGV[1]
