-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Judge deliveries that a blocking read brought while the queue was paused or some jobs were to be cancelled.
-- ARGV: lane, entry id, message of each delivery
-- Returns: the places (from 1) of those that may run (ids are not unique over the lanes); the others went back (paused) or ended (cancelled).
-- A crash before: they stay pending, as after `take`. After, unseen: those that may run stay pending.

local paused = redis.call('EXISTS', key('z')) == 1
local allowed = {}
for i = 1, #ARGV, 3 do
  local lane, entry, message = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local id, name, options = decode(message)
  if claimed(lane, entry) then
    if marked(id) then
      cancel(id, name, options)
      remove(lane, entry)
    elseif paused then
      push('r', message)
      remove(lane, entry)
    else
      allowed[#allowed + 1] = (i + 2) / 3
    end
  end
end
return allowed
