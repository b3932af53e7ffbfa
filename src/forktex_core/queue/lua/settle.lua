-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Write the outcomes of jobs that were in hand. Only a delivery that is still pending counts (the fence).
-- ARGV: deliveries before a job is a dead letter, dead letters to keep, number of groups, then for each group of plain successes (nothing to write but the
--   acknowledgement): lane, name, n, n entry ids; then for each other outcome seven values:
--   lane, entry id, verb, message, delay in ms, outcome (JSON), failure (text)
--   verbs: s succeeded, f failed for good, c cancelled, x expired, r run again after the delay, g given back
-- Returns: how many outcomes were stale.
-- A crash before: the jobs stay pending and run again. After, unseen: the worker repeats the call and all is stale.

local deliveries, keep, groups = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local at, stale = 4, 0

for _ = 1, groups do
  local stream, name, n = key(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
  local first, last = at + 3, at + 2 + n
  local done = redis.call('XACK', stream, GROUP, unpack(ARGV, first, last))
  redis.call('XDEL', stream, unpack(ARGV, first, last))
  if done > 0 then count('succeeded', name, done) end
  stale = stale + n - done
  at = last + 1
end

local STATUS = { s = 'succeeded', f = 'failed', c = 'cancelled', x = 'expired' }

local function settle(lane, entry, verb, message, delay, outcome, failure)
  local id, name, options = decode(message)
  if verb == 'g' then
    take_back(lane, entry, message, false, deliveries, keep)
    return
  elseif verb == 'r' and not marked(id) then
    park(id, message, now() + tonumber(delay))
    release(id)
    count('retried', name, 1)
  elseif verb == 'r' then
    cancel(id, name, options)
  else
    if verb == 'f' then bury(message, 'failed', failure, keep) end
    finish(id, name, options, STATUS[verb], outcome)
  end
  remove(lane, entry)
end

for i = at, #ARGV, 7 do
  if claimed(ARGV[i], ARGV[i + 1]) then
    settle(unpack(ARGV, i, i + 6))
  else
    stale = stale + 1
  end
end
return stale
