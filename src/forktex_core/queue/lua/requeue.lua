-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Put dead letters back into the queue as fresh jobs.
-- ARGV: ids of dead letters (not of jobs)
-- Returns: how many went back.
-- Their failures are forgotten; so are their batch (it has ended), expiry and unique key (it was given up).
-- Each letter moves in one step: a crash leaves it in exactly one place.

local moved = 0
for _, letter in ipairs(ARGV) do
  local found = redis.call('XRANGE', key('dead'), letter, letter)[1]
  if found then
    local id, name, options, arguments = decode(found[2][2])
    for _, option in ipairs({ 'a', 'd', 'b', 'x', 'u', 'U', 'g' }) do
      options[option] = nil
    end
    push(options.p or 'n', encode(id, name, options, arguments))
    redis.call('XDEL', key('dead'), letter)
    redis.call('DEL', key('o:' .. id))
    count('requeued', name, 1)
    moved = moved + 1
  end
end
return moved
