-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: register_worker
-- A new life of a worker. The session lock is taken in the same statement, so a registered worker never lacks it.
INSERT INTO {schema}.worker (name, host, pid, queues, lanes, slots, session_lock) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, CASE WHEN $7 THEN pg_try_advisory_lock($8, (id % 2147483647)::integer) END AS locked

-- name: hold_session_lock
-- After a reconnect: the same life goes on, if nobody ended it.
SELECT pg_try_advisory_lock($2, (w.id % 2147483647)::integer) AS locked FROM {schema}.worker w
WHERE w.id = $1 AND w.ended_at IS NULL

-- name: end_worker
SELECT {schema}.end_worker($1, $2) AS queues

-- name: tick
SELECT * FROM {schema}.tick($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: do_chores
SELECT * FROM {schema}.do_chores($1, $2, $3, $4, $5, $6, $7)

-- name: resign
-- A leader that stops leaves the office empty, so that the next one need not wait for anything.
UPDATE {schema}.leader SET worker_id = NULL, locked = false WHERE worker_id = $1

-- name: register_definitions
-- What a worker serves. Returns the bodies that were another one when they were registered before.
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[])
                  AS g(workflow, version, lane, kind, body)
), changed AS MATERIALIZED (
    SELECT d.workflow, d.version FROM {schema}.definition d JOIN given g USING (workflow, version) WHERE d.body <> g.body
), put AS (
    INSERT INTO {schema}.definition (workflow, version, lane, kind, body) SELECT * FROM given
    ON CONFLICT (workflow, version) DO UPDATE
    SET lane = excluded.lane, kind = excluded.kind, body = coalesce(excluded.body, definition.body)
    WHERE (definition.lane, definition.kind, definition.body)
       IS DISTINCT FROM (excluded.lane, excluded.kind, coalesce(excluded.body, definition.body))
) SELECT workflow, version FROM changed ORDER BY workflow, version

-- name: latest_definition
-- The newest version of a workflow that any worker ever served.
SELECT version, lane FROM {schema}.definition WHERE workflow = $1 AND ($2::integer IS NULL OR version = $2)
ORDER BY version DESC LIMIT 1

-- name: notify
-- Wake-ups of many channels in one statement, outside every transaction.
SELECT pg_notify(a.channel, a.payload) FROM unnest($1::text[], $2::text[]) AS a(channel, payload)

-- name: revoked_runs
SELECT revoked FROM {schema}.worker WHERE id = $1

-- name: acknowledge_revoked
-- Nothing of these runs is under way in the worker any more: it may claim them again.
UPDATE {schema}.worker SET revoked = ARRAY(SELECT x FROM unnest(revoked) x WHERE x <> ALL ($2::uuid[])) WHERE id = $1

-- name: database_time
SELECT clock_timestamp() AS now
