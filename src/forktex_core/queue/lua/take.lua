-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Deliver waiting jobs to a worker without blocking.
-- ARGV: worker, room, whether a suspect may come ('1' or '0'), share of the room for jobs that came back, place in the
--   pattern of priorities (from 0)
-- Returns: lane, entry id, message of each delivery in one flat list; nothing while the queue is paused; only 'more'
--   when so many cancelled jobs ended that it is better to call again.
-- Order: jobs that came back up to their share (a flood of them must not stop the others), one suspect, each priority
-- its share of what is left, then whatever there is.
-- Shares: while all lanes have jobs, six of ten are high, three normal, one is low. The caller moves its place on by the
-- number of jobs that it got from these lanes, so that a worker with one free slot at a time keeps to it as well.
-- A crash before: nothing is delivered. After, unseen: the deliveries are pending under the worker's name; it reads
-- them again itself when it lives (XREADGROUP from 0), and when it dies they are taken back.

local MOST_WISHED = 1000
local PATTERN = 'hnhhnhlhnh'
local worker, room, place = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
if redis.call('EXISTS', key('z')) == 1 then return {} end
local wishes = redis.call('EXISTS', key('x')) == 1
local taken, dry = {}, {}

local wished = 0

-- Read up to n jobs; cancelled ones end here and leave their places to others.
local read
function read(lane, n)
  if n < 1 or dry[lane] or wished >= MOST_WISHED then return end
  local reply = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', n, 'STREAMS', key(lane), '>')
  local entries, again = reply and reply[1][2] or {}, 0
  dry[lane] = #entries < n and not wishes -- a job that is cancelled may hand its place to another one
  for _, entry in ipairs(entries) do
    local message = entry[2][2]
    local id, name, options
    if wishes then id, name, options = decode(message) end
    if wishes and marked(id) then
      cancel(id, name, options)
      remove(lane, entry[1])
      wished, again = wished + 1, again + 1
    else
      taken[#taken + 1], taken[#taken + 2], taken[#taken + 3] = lane, entry[1], message
      room = room - 1
    end
  end
  return read(lane, again)
end

local function shares(n)
  local parts = { h = 0, n = 0, l = 0 }
  for i = place, place + n - 1 do
    local lane = string.sub(PATTERN, i % #PATTERN + 1, i % #PATTERN + 1)
    parts[lane] = parts[lane] + 1
  end
  return parts
end

read('r', math.min(room, tonumber(ARGV[4])))
if ARGV[3] == '1' then read('q', math.min(room, 1)) end
local parts = shares(room)
for _, lane in ipairs({ 'h', 'n', 'l' }) do
  read(lane, math.min(room, parts[lane]))
end
for _, lane in ipairs({ 'r', 'h', 'n', 'l' }) do
  read(lane, room)
end
if #taken == 0 and wished >= MOST_WISHED then return { 'more' } end
return taken
