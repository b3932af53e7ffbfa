-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Enqueue jobs, all of them or none.
-- ARGV: room of the queue ('' without a limit), batch id or '', callback of the batch or '', then for each job:
--   lane, message, due ('' now, '+MS' from now, 'MS' since the epoch), unique ('' or its mode q, d, p and for p the
--   period in ms), guard ('' none, 'o' once per job id, 'TICK:CRON' once per tick of a cron job)
-- Returns: for each job '' when it was enqueued, the id of the holder when its unique key is taken, '-' when the
--   guard had fired already. Error FULL when there is no room for all.
-- A crash before: nothing is enqueued. After, unseen: a retry enqueues again, save guarded and unique jobs.

local FIELDS = 5
local n = (#ARGV - 3) / FIELDS
if ARGV[1] ~= '' then
  local depth = redis.call('HLEN', key('j'))
  for _, lane in ipairs(STREAMS) do
    depth = depth + redis.call('XLEN', key(lane))
  end
  if depth + n > tonumber(ARGV[1]) then
    return redis.error_reply('FULL ' .. depth)
  end
end

local time
local function due_at(due)
  if due == '' then return nil end
  time = time or now()
  local at = string.sub(due, 1, 1) == '+' and time + tonumber(due) or tonumber(due)
  return at > time and at or nil
end

-- '' when the key is ours now or was before (this is a retry), else the holder
local function lock(id, options, unique)
  local name = key('u:' .. options.u)
  local mode = string.sub(unique, 1, 1)
  local got = mode == 'p' and redis.call('SET', name, id, 'NX', 'PX', string.sub(unique, 2))
    or mode ~= 'p' and redis.call('SET', name, id, 'NX')
  return got and '' or redis.call('GET', name)
end

local function guarded(id, guard)
  if guard == 'o' then
    return not redis.call('SET', key('s:' .. id), 1, 'NX', 'EX', 86400)
  end
  local tick, cron = string.match(guard, '^(%d+):(.*)$')
  local last = redis.call('HGET', key('C'), cron)
  if last and tonumber(last) >= tonumber(tick) then return true end
  redis.call('HSET', key('C'), cron, tick)
end

if ARGV[2] ~= '' then
  if redis.call('EXISTS', key('b:' .. ARGV[2])) == 1 then return {} end
  redis.call('HSET', key('b:' .. ARGV[2]), 'left', n, 'total', n, 'callback', ARGV[3])
end

local replies, counts = {}, {}
for i = 4, #ARGV, FIELDS do
  local lane, message, due, unique, guard = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local id, name = string.match(message, '^([^\n]*)\n([^\n]*)') -- cheaper than decode
  local reply = guard ~= '' and guarded(id, guard) and '-' or ''
  if reply == '' and unique ~= '' then
    local _, _, options = decode(message)
    reply = lock(id, options, unique)
    if reply ~= '' and ARGV[2] ~= '' then
      count_down(ARGV[2], 'succeeded')
    end
  end
  if reply == '' then
    local at = due_at(due)
    if at then park(id, message, at) else push(lane, message) end
    counts[name] = (counts[name] or 0) + 1
  end
  replies[#replies + 1] = reply
end
for name, number in pairs(counts) do
  count('enqueued', name, number)
end
return replies
