-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: doctor_server
-- client_port is the peer's, as the server sees it: another one than ours means that something stands between.
SELECT current_setting('server_version_num')::integer AS version, current_setting('server_version') AS version_text,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, current_setting('autovacuum') AS autovacuum,
       current_setting('track_counts') AS track_counts, current_setting('statement_timeout') AS statement_timeout,
       current_setting('idle_in_transaction_session_timeout') AS idle_timeout,
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer AS room,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS taken,
       (SELECT a.client_port FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()) AS client_port,
       clock_timestamp() AS now

-- name: doctor_tables
SELECT s.relname AS name, s.n_live_tup AS live, s.n_dead_tup AS dead, s.n_tup_upd AS updates, s.n_tup_hot_upd AS hot,
       s.last_autovacuum, s.last_vacuum, s.last_analyze, s.last_autoanalyze
FROM pg_stat_user_tables s WHERE s.schemaname = $1 ORDER BY s.relname

-- name: doctor_indexes
SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1

-- name: doctor_transactions
-- What keeps vacuum from removing dead rows: the oldest transactions of this database.
SELECT pid, application_name, state, xact_start, clock_timestamp() - xact_start AS age FROM pg_stat_activity
WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '10 min' AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 3

-- name: doctor_stuck
-- Runs that should have moved: due for a minute, over their deadline, or halted; the first of each.
SELECT 'due' AS what, count(*) AS n, (array_agg(r.id ORDER BY r.due_at))[1] AS first, min(r.due_at) AS since
FROM {schema}.run r WHERE r.due_at < clock_timestamp() - interval '1 min'
  AND NOT EXISTS (SELECT 1 FROM {schema}.queue q WHERE q.name = r.queue AND q.paused)
UNION ALL
SELECT 'late', count(*), (array_agg(r.id ORDER BY r.deadline_at))[1], min(r.deadline_at)
FROM {schema}.run r WHERE r.deadline_at < clock_timestamp() - interval '10 s' AND r.finished_at IS NULL
UNION ALL
SELECT 'halted', count(*), (array_agg(r.id ORDER BY r.created_at))[1], min(r.created_at)
FROM {schema}.run r WHERE r.status = 'paused' AND r.error IS NOT NULL

-- name: doctor_stuck_workers
-- Living workers that were not heard of for long, and those that did not acknowledge runs that were taken from them.
SELECT w.id, w.name, w.host, w.pid, w.heartbeat_at, cardinality(w.revoked) AS revoked FROM {schema}.worker w
WHERE w.ended_at IS NULL AND w.heartbeat_at < clock_timestamp() - interval '15 s' ORDER BY w.id
