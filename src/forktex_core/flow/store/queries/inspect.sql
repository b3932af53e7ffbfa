-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: inspect_entries
SELECT key, seq, kind, name, failed, value::text AS value, claim, attempt, worker_id, started_at, at
FROM {schema}.journal WHERE run_id = $1 AND seq > $2 ORDER BY seq

-- name: inspect_signals
SELECT no, name, payload::text AS payload, key, taken, taken_seq, sent_at
FROM {schema}.signal WHERE run_id = $1 ORDER BY no

-- name: inspect_children
SELECT id, workflow, status, parent_key, created_at, finished_at FROM {schema}.run c WHERE parent_id = $1 /*visible c*/ ORDER BY created_at, id

-- name: inspect_workers_of
SELECT id, name, host, pid, started_at, heartbeat_at, ended_at, end_reason FROM {schema}.worker WHERE id = ANY ($1::bigint[])

-- name: inspect_pulse
-- What changes whenever a run moves.
SELECT r.status, r.claim, r.generation, r.signal_seq, r.finished_at, r.waiting_for, r.paused_at, j.seq, j.entries
FROM {schema}.run r, LATERAL (SELECT coalesce(max(j.seq), 0) AS seq, count(*) AS entries
                              FROM {schema}.journal j WHERE j.run_id = r.id) j
WHERE r.id = $1

-- name: inspect_standing
-- The run's row lock, if a transaction holds it: xmax is the locker's number while that transaction is under way.
SELECT clock_timestamp() AS now, r.signal_seq, r.limited, r.lane,
       q.paused AS queue_paused, q.concurrency, q.per_key, q.rate, q.rate_period, q.starts,
       (SELECT count(*) FROM {schema}.run x WHERE x.queue = r.queue AND x.limited AND x.worker_id IS NOT NULL
        /*visible x*/) AS queue_running,
       (SELECT count(*) FROM {schema}.run x WHERE x.queue = r.queue AND x.key = r.key AND x.limited
           AND x.worker_id IS NOT NULL /*visible x*/) AS key_running,
       l.term, l.worker_id AS leader, l.seen_at AS leader_seen_at,
       w.name AS worker, w.host AS worker_host, w.pid AS worker_pid, w.heartbeat_at AS worker_heartbeat_at,
       w.ended_at AS worker_ended_at,
       k.pid AS lock_pid, a.state AS lock_state, a.xact_start AS lock_since, a.application_name AS lock_application,
       left(a.query, 200) AS lock_query,
       (SELECT max(j.at) FROM {schema}.journal j WHERE j.run_id = r.id) AS moved_at,
       (SELECT x.id FROM {schema}.run x WHERE x.schedule = r.schedule AND x.finished_at IS NULL AND x.id <> r.id
        ORDER BY x.id LIMIT 1) AS run_before
FROM {schema}.run r
CROSS JOIN {schema}.leader l
LEFT JOIN {schema}.queue q ON q.name = r.queue
LEFT JOIN {schema}.worker w ON w.id = r.worker_id
LEFT JOIN pg_locks k ON k.locktype = 'transactionid' AND k.transactionid = r.xmax AND k.granted AND k.mode = 'ExclusiveLock'
LEFT JOIN pg_stat_activity a ON a.pid = k.pid
WHERE r.id = $1

-- name: inspect_servers
SELECT w.id, w.name, w.host, w.pid, w.lanes, w.slots, w.heartbeat_at,
       (SELECT count(*) FROM {schema}.run r WHERE r.worker_id = w.id /*visible r*/) AS running
FROM {schema}.worker w WHERE w.ended_at IS NULL AND $1 = ANY (w.queues) ORDER BY w.id

-- name: inspect_fleet
-- The workers that live, or those of them that serve a lane.
SELECT w.id, w.name, w.host, w.pid, w.queues, w.lanes, w.slots, w.started_at, w.heartbeat_at, w.session_lock,
       (SELECT count(*) FROM {schema}.run r WHERE r.worker_id = w.id /*visible r*/) AS running, l.worker_id IS NOT NULL AS leads,
       clock_timestamp() AS now
FROM {schema}.worker w LEFT JOIN {schema}.leader l ON l.worker_id = w.id
WHERE w.ended_at IS NULL AND ($1::text IS NULL OR $1 = ANY (w.lanes)) ORDER BY w.id

-- name: inspect_holders
SELECT r.id, r.claimed_at FROM {schema}.run r
WHERE r.queue = $1 AND r.limited AND r.worker_id IS NOT NULL AND ($2::text IS NULL OR r.key = $2) /*visible r*/
ORDER BY r.claimed_at LIMIT 5

-- name: inspect_lives
SELECT w.id, w.name, w.host, w.pid, w.queues, w.lanes, w.slots, w.started_at, w.heartbeat_at, w.ended_at, w.end_reason,
       w.session_lock, cardinality(w.revoked) AS revoked,
       (SELECT count(*) FROM {schema}.run r WHERE r.worker_id = w.id /*visible r*/) AS running,
       l.worker_id IS NOT NULL AS leads, clock_timestamp() AS now
FROM {schema}.worker w LEFT JOIN {schema}.leader l ON l.worker_id = w.id
WHERE w.ended_at IS NULL OR w.ended_at > clock_timestamp() - make_interval(secs => $1::float8 * 3600)
ORDER BY w.ended_at IS NOT NULL, w.id

-- name: inspect_leader
SELECT l.term, l.worker_id, l.elected_at, l.seen_at, l.locked, clock_timestamp() AS now, w.name, w.host, w.pid
FROM {schema}.leader l LEFT JOIN {schema}.worker w ON w.id = l.worker_id

-- name: inspect_definitions
SELECT d.workflow, d.version, d.kind, d.lane, d.registered_at,
       (SELECT count(*) FROM {schema}.worker w WHERE w.ended_at IS NULL AND d.lane = ANY (w.lanes)) AS workers
FROM {schema}.definition d ORDER BY d.workflow, d.version

-- name: inspect_depths
SELECT queue, due, later, running, oldest_due_at, paused, concurrency, per_key, rate,
       extract(epoch FROM rate_period)::float8 AS rate_period
FROM {schema}.queue_depths ORDER BY queue

-- name: inspect_published
SELECT key, value::text AS value, at FROM {schema}.published WHERE run_id = $1 ORDER BY key
