-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- The chores that any worker does: enqueue what is due, take back what dead workers held.
-- ARGV: worker, '1' when it may judge others dead (it has seen the server without a break for longer than a sign of life
--   lasts) or '0', deliveries of a job before it is a dead letter, dead letters to keep, ms between two judgements,
--   '1' to look for consumers that nobody knows
-- Returns: server time in ms, 1 when paused, time of the next due job in ms or -1, 1 when there is more to do at once,
--   id of the last notice.
-- One worker per interval judges: the lock expires by itself, so a killed holder leaves nothing behind.
-- Each job moves in one step. A crash before: it is moved by the next tick. After: it has moved.

local BUDGET = 500
local time = now()
local more = 0

local due = redis.call('ZRANGEBYSCORE', key('d'), '-inf', time, 'LIMIT', 0, BUDGET)
for _, id in ipairs(due) do
  local message = redis.call('HGET', key('j'), id)
  if message then
    local _, _, options = decode(message)
    push(options.g and 'r' or options.p or 'n', message)
    redis.call('HDEL', key('j'), id)
  end
  redis.call('ZREM', key('d'), id)
end
if #due == BUDGET then more = 1 end

-- A consumer without an entry in W: the server woke a reader whose worker had just been forgotten.
local function find_strangers()
  for _, lane in ipairs(STREAMS) do
    local consumers = redis.pcall('XINFO', 'CONSUMERS', key(lane), GROUP)
    for _, consumer in ipairs(consumers) do
      redis.call('HSETNX', key('W'), consumer[2], '{}')
    end
  end
end

-- A wish to cancel is void once every entry of the streams is younger than the wish.
local function forget_wishes()
  local oldest
  for _, lane in ipairs(STREAMS) do
    local first = redis.call('XRANGE', key(lane), '-', '+', 'COUNT', 1)[1]
    local born = first and tonumber(string.match(first[1], '^%d+'))
    if born and (not oldest or born < oldest) then oldest = born end
  end
  if oldest then
    redis.call('ZREMRANGEBYSCORE', key('x'), '-inf', '(' .. string.format('%.0f', oldest))
  else
    redis.call('DEL', key('x'))
  end
end

if ARGV[2] == '1' and redis.call('SET', key('judge'), ARGV[1], 'NX', 'PX', ARGV[5]) then
  if ARGV[6] == '1' then find_strangers() end
  if redis.call('EXISTS', key('x')) == 1 then forget_wishes() end
  local budget = BUDGET
  for _, worker in ipairs(redis.call('HKEYS', key('W'))) do
    if redis.call('EXISTS', key('hb:' .. worker)) == 0 then
      budget = take_all_back(worker, true, tonumber(ARGV[3]), ARGV[4], budget)
      if budget > 0 then forget_worker(worker) end
    end
  end
  if budget == 0 then
    more = 1
    redis.call('DEL', key('judge'))
  end
end

local head = redis.call('ZRANGE', key('d'), 0, 0, 'WITHSCORES')
local notice = redis.call('XREVRANGE', key('k'), '+', '-', 'COUNT', 1)[1]
return {
  time, redis.call('EXISTS', key('z')), head[2] and math.floor(tonumber(head[2])) or -1, more, notice and notice[1] or '0-0',
}
