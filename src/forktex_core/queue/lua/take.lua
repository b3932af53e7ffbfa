-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Deliver waiting jobs to a worker without blocking.
-- ARGV: worker, room, whether a suspect may come ('1' or '0'), shares of h, n and l (together they make the room)
-- Returns: lane, entry id, message of each delivery in one flat list; nothing while the queue is paused.
-- Order: jobs that came back, one suspect, each priority its share, then what is left over by priority.
-- A crash before: nothing is delivered. After, unseen: the deliveries are pending under the worker's name; it reads
-- them again itself when it lives (XREADGROUP from 0), and when it dies they are taken back.

local worker, room = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', key('z')) == 1 then return {} end
local wishes = redis.call('EXISTS', key('x')) == 1
local taken = {}

local function read(lane, n)
  if n < 1 then return end
  local reply = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', n, 'STREAMS', key(lane), '>')
  if not reply then return end
  for _, entry in ipairs(reply[1][2]) do
    local message = entry[2][2]
    local id, name, options
    if wishes then id, name, options = decode(message) end
    if wishes and marked(id) then
      cancel(id, name, options)
      remove(lane, entry[1])
    else
      taken[#taken + 1], taken[#taken + 2], taken[#taken + 3] = lane, entry[1], message
      room = room - 1
    end
  end
end

read('r', room)
if ARGV[3] == '1' then read('q', math.min(room, 1)) end
for i, lane in ipairs({ 'h', 'n', 'l' }) do
  read(lane, math.min(room, tonumber(ARGV[3 + i])))
end
for _, lane in ipairs({ 'h', 'n', 'l' }) do
  read(lane, room)
end
return taken
