-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Cancel a job wherever it is.
-- ARGV: job id
-- Returns: 2 when it ended here (it was delayed or waiting for a limit), 1 when the wish is noted (it is queued or
--   running: a worker ends it before it starts, or cancels it), 0 when it has a kept result: it ended before.
-- A crash before: no wish. After: the wish stands until the job has ended.

local id = ARGV[1]
if redis.call('EXISTS', key('o:' .. id)) == 1 then return 0 end
local message = redis.call('HGET', key('j'), id)
if message then
  local _, name, options = decode(message)
  cancel(id, name, options)
  redis.call('HDEL', key('j'), id)
  redis.call('ZREM', key('d'), id)
  return 2
end
redis.call('ZADD', key('x'), now(), id)
tell('cancel', id)
return 1
