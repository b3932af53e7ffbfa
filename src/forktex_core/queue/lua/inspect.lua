-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- A picture of the queue at one moment.
-- Returns: server time in ms, 1 when paused, jobs outside the streams, of them delayed, dead letters, then for each stream
--   r q h n l: waiting, held by workers, age of the oldest waiting job in ms or -1; then three lists: counters
--   (name, number), workers (name, description, 1 when alive), deliveries by worker (name, number).

local time = now()
local picture = {
  time, redis.call('EXISTS', key('z')), redis.call('HLEN', key('j')), redis.call('ZCARD', key('d')), redis.call('XLEN', key('dead')),
}
local holding = {}

local function group_of(lane)
  local groups = redis.pcall('XINFO', 'GROUPS', key(lane))
  local state = {}
  for i = 1, #(groups[1] or {}), 2 do
    state[groups[1][i]] = groups[1][i + 1]
  end
  return state
end

for _, lane in ipairs(STREAMS) do
  local state = group_of(lane)
  local held = state['pending'] or 0
  local from = state['last-delivered-id'] and '(' .. state['last-delivered-id'] or '-'
  local first = redis.call('XRANGE', key(lane), from, '+', 'COUNT', 1)[1]
  local age = first and time - tonumber(string.match(first[1], '^%d+')) or -1
  picture[#picture + 1] = redis.call('XLEN', key(lane)) - held
  picture[#picture + 1] = held
  picture[#picture + 1] = age
  local summary = held > 0 and redis.call('XPENDING', key(lane), GROUP)[4] or {}
  for _, item in ipairs(summary) do
    holding[item[1]] = (holding[item[1]] or 0) + tonumber(item[2])
  end
end

local workers, deliveries = {}, {}
local known = redis.call('HGETALL', key('W'))
for i = 1, #known, 2 do
  workers[#workers + 1] = known[i]
  workers[#workers + 1] = known[i + 1]
  workers[#workers + 1] = redis.call('EXISTS', key('hb:' .. known[i]))
end
for worker, number in pairs(holding) do
  deliveries[#deliveries + 1] = worker
  deliveries[#deliveries + 1] = number
end
picture[#picture + 1] = redis.call('HGETALL', key('t'))
picture[#picture + 1] = workers
picture[#picture + 1] = deliveries
return picture
