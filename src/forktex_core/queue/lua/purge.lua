-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Drop jobs that nobody holds, a few at a time.
-- ARGV: what ('ready': in the streams, 'parked': delayed or waiting for a limit, 'dead': dead letters), how many at most
-- Returns: how many went; call again until 0.
-- A purged job ends as cancelled: its unique key is free, its batch counts it, its result says so. Running ones stay.

local what, most = ARGV[1], tonumber(ARGV[2])
local gone = 0

local function drop(message)
  local id, name, options = decode(message)
  cancel(id, name, options)
  gone = gone + 1
  return id
end

local function delivered(lane)
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', key(lane))) do
    for i = 1, #group, 2 do
      if group[i] == 'last-delivered-id' then return '(' .. group[i + 1] end
    end
  end
  return '-'
end

if what == 'ready' then
  for _, lane in ipairs(STREAMS) do
    if redis.call('EXISTS', key(lane)) == 1 and gone < most then
      for _, entry in ipairs(redis.call('XRANGE', key(lane), delivered(lane), '+', 'COUNT', most - gone)) do
        drop(entry[2][2])
        redis.call('XDEL', key(lane), entry[1])
      end
    end
  end
elseif what == 'parked' then
  local cursor = '0' -- a scan of a hash that has shrunk may find nothing for a while
  repeat
    local found = redis.call('HSCAN', key('j'), cursor, 'COUNT', most)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      drop(found[2][i + 1])
      redis.call('HDEL', key('j'), found[2][i])
      redis.call('ZREM', key('d'), found[2][i])
    end
  until gone > 0 or cursor == '0'
else
  for _, letter in ipairs(redis.call('XRANGE', key('dead'), '-', '+', 'COUNT', most)) do
    redis.call('XDEL', key('dead'), letter[1])
    gone = gone + 1
  end
end
return gone
