-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- What every script shares: Python puts this text in front of each of them.
--
-- KEYS[1] is the queue's root key, "fq:{name}". Every other key is the root, a colon and a suffix, so all of a
-- queue lies in one slot of a Cluster. The suffixes:
--   h n l      streams of waiting jobs by priority        r        stream of jobs that came back (read first)
--   q          stream of suspects: one more crash and they are dead letters (one at a time per worker)
--   d          zset, job id by the time it is due (ms)    j        hash, job id -> message of jobs outside a stream
--   u:KEY      holder of a unique key                     b:ID     hash of a batch
--   c:LIMIT    hash, holders of a concurrency limit ('#' is its size)
--   w:LIMIT    list, ids that wait for it                 y        hash, job id -> limits that it holds
--   A:LIMIT    ring of the last admissions of a rate      B:LIMIT  ring of its last reservations
--   x          zset, ids to cancel by the time of the wish
--   o:ID       kept result                                e        stream of ids whose result is there
--   p:ID       progress                                   dead     stream of dead letters
--   W          hash, workers                              hb:WORKER  sign of life, expires
--   k          stream of notices to the workers           z        present while the queue is paused
--   C          hash, last tick of each cron job           t        hash of counters
--   s:ID       an outbox row or retried call that has been enqueued already (expires)
--
-- A message is "id\nname\noptions\narguments": options are JSON or empty, arguments stay opaque to Lua.
-- A job is in one place at a time, and a script moves it. A stream entry id is the claim on a delivery: whoever
-- moves the job makes a new entry, so that an old claim settles nothing.
-- A server without memory refuses writes that need some: each script does those first, so that a refusal changes nothing.

local root = KEYS[1]
local GROUP = 'w'
local STREAMS = { 'r', 'q', 'h', 'n', 'l' }

local function key(suffix)
  return root .. ':' .. suffix
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- What is no message (somebody else wrote it) counts as a job without a name, so that no script trips over it.
local function decode(message)
  local id, name, options, arguments = string.match(message, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  if not id then return '', '', {}, message end
  local fine, read = true, {}
  if options ~= '' then fine, read = pcall(cjson.decode, options) end
  if not fine or type(read) ~= 'table' then return '', '', {}, message end
  return id, name, read, arguments
end

local function encode(id, name, options, arguments)
  local text = next(options) and cjson.encode(options) or ''
  return table.concat({ id, name, text, arguments }, '\n')
end

-- Counters are not worth a refusal.
local function count(what, name, n)
  redis.pcall('HINCRBY', key('t'), what .. ':' .. name, n)
end

-- A notice to every worker of this queue.
local function tell(what, value)
  redis.call('XADD', key('k'), 'MAXLEN', '~', 1000, '*', what, value)
end

local function push(lane, message)
  return redis.call('XADD', key(lane), '*', 'm', message)
end

-- Keep a job outside the streams until it is due.
local function park(id, message, due)
  redis.call('HSET', key('j'), id, message)
  redis.call('ZADD', key('d'), due, id)
  if redis.call('ZRANK', key('d'), id) == 0 then
    tell('due', due)
  end
end

local function claimed(lane, entry)
  return #redis.call('XPENDING', key(lane), GROUP, entry, entry, 1) > 0
end

local function remove(lane, entry)
  redis.call('XACK', key(lane), GROUP, entry)
  redis.call('XDEL', key(lane), entry)
end

local function marked(id)
  return redis.call('ZSCORE', key('x'), id)
end

local function hold(id, limit)
  local held = redis.call('HGET', key('y'), id)
  local limits = held and cjson.decode(held) or {}
  limits[#limits + 1] = limit
  redis.call('HSET', key('y'), id, cjson.encode(limits))
end

-- Give a limit's free slots to the jobs that wait longest: the slot is theirs before they run.
local function hand_on(limit)
  local slots = key('c:' .. limit)
  local size = redis.call('HGET', slots, '#')
  if not size then return end
  local room = tonumber(size) + 1 - redis.call('HLEN', slots)
  while room > 0 do
    local id = redis.call('LPOP', key('w:' .. limit))
    if not id then break end
    local message = redis.call('HGET', key('j'), id)
    if message then
      redis.call('HDEL', key('j'), id)
      redis.call('HSET', slots, id, 1)
      hold(id, limit)
      push('r', message)
      room = room - 1
    end
  end
  if redis.call('HLEN', slots) == 1 then
    redis.call('DEL', slots)
  end
end

local function release(id)
  local held = redis.call('HGET', key('y'), id)
  if not held then return end
  redis.call('HDEL', key('y'), id)
  for _, limit in ipairs(cjson.decode(held)) do
    redis.call('HDEL', key('c:' .. limit), id)
    hand_on(limit)
  end
end

local function unlock(id, options)
  if options.u and redis.call('GET', key('u:' .. options.u)) == id then
    redis.call('DEL', key('u:' .. options.u))
  end
end

-- One job of a batch has ended; the last one enqueues the callback.
local function count_down(batch, status)
  local state = key('b:' .. batch)
  if redis.call('EXISTS', state) == 0 then return end
  if status ~= 'succeeded' then
    redis.call('HINCRBY', state, 'failed', 1)
  end
  if redis.call('HINCRBY', state, 'left', -1) > 0 then return end
  local total, failed, callback = unpack(redis.call('HMGET', state, 'total', 'failed', 'callback'))
  if callback and callback ~= '' then
    local id, name, options, arguments = decode(callback)
    options.B = { tonumber(total), tonumber(failed or 0) }
    push(options.p or 'n', encode(id, name, options, arguments))
    count('enqueued', name, 1)
  end
  redis.call('DEL', state)
end

-- The end of a job, however it came: everything that is known of it goes, but for a kept result.
local function finish(id, name, options, status, outcome)
  if options.b then
    count_down(options.b, status)
  end
  if options.r then
    redis.call('SET', key('o:' .. id), outcome, 'PX', options.r)
    redis.call('XADD', key('e'), 'MAXLEN', '~', 1000, '*', 'i', id)
  end
  if options.U ~= 'p' then
    unlock(id, options)
  end
  release(id)
  redis.call('DEL', key('p:' .. id))
  redis.call('ZREM', key('x'), id)
  count(status, name, 1)
end

local function cancel(id, name, options)
  finish(id, name, options, 'cancelled', '{"s":"cancelled"}')
end

local function bury(message, reason, failure, keep)
  redis.call('XADD', key('dead'), 'MAXLEN', keep, '*', 'm', message, 's', reason, 'e', failure)
end

-- Take a delivery back from a worker. lost: the worker died, which counts against the job.
local function take_back(lane, entry, message, lost, deliveries, keep)
  local id, name, options, arguments = decode(message)
  if marked(id) then
    cancel(id, name, options)
  elseif lost and (options.d or 0) + 1 >= deliveries then
    local failure = 'its worker died ' .. deliveries .. ' times while the job was in hand'
    options.d = (options.d or 0) + 1
    bury(encode(id, name, options, arguments), 'crashed', failure, keep)
    finish(id, name, options, 'failed', cjson.encode({ s = 'failed', e = failure }))
  else
    if lost then
      options.d = (options.d or 0) + 1
      count('redelivered', name, 1)
    end
    local suspect = (options.d or 0) > 0 and options.d + 1 >= deliveries
    push(suspect and 'q' or 'r', encode(id, name, options, arguments))
    release(id)
  end
  remove(lane, entry)
end

-- Take back up to `budget` deliveries of a worker; what is left of the budget.
local function take_all_back(worker, lost, deliveries, keep, budget)
  for _, lane in ipairs(STREAMS) do
    local pending = budget > 0 and redis.pcall('XPENDING', key(lane), GROUP, '-', '+', budget, worker) or {}
    for _, item in ipairs(pending) do
      local found = redis.call('XRANGE', key(lane), item[1], item[1])[1]
      if found then
        take_back(lane, item[1], found[2][2], lost, deliveries, keep)
      else
        redis.call('XACK', key(lane), GROUP, item[1])
      end
      budget = budget - 1
    end
  end
  return budget
end

local function forget_worker(worker)
  for _, lane in ipairs(STREAMS) do
    redis.pcall('XGROUP', 'DELCONSUMER', key(lane), GROUP, worker)
  end
  redis.call('HDEL', key('W'), worker)
  redis.call('DEL', key('hb:' .. worker))
end
