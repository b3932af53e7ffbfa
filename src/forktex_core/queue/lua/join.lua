-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- A worker joins, or makes sure that it still belongs: the groups exist and it is known.
-- ARGV: worker, its description (JSON), ms that a sign of life lasts
-- Returns: 1 when the worker was not known (it is new, or was given up for dead), else 0.
-- The groups begin at id 0: jobs that were enqueued before the first worker came are delivered.
-- A crash before or after: its sign of life expires, and other workers forget it.

if redis.call('HEXISTS', key('W'), ARGV[1]) == 0 then
  for _, lane in ipairs(STREAMS) do
    redis.pcall('XGROUP', 'CREATE', key(lane), GROUP, '0', 'MKSTREAM')
  end
end
redis.call('SET', key('hb:' .. ARGV[1]), 1, 'PX', ARGV[3])
return redis.call('HSET', key('W'), ARGV[1], ARGV[2])
