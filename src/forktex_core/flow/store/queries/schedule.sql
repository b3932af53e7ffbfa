-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: put_schedule
-- Makes a schedule, or changes one that differs: its next time is reckoned anew only when the plan changed.
INSERT INTO {schema}.schedule AS s (name, workflow, version, plan, overlap, catch_up, jitter, input, queue, priority, key,
                                    timeout, metadata, next_at/*columns*/)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8::text::json, $9, $10, $11, $12, $13::text::jsonb, $14/*values*/)
ON CONFLICT (name) DO UPDATE SET workflow = excluded.workflow, version = excluded.version, plan = excluded.plan,
    overlap = excluded.overlap, catch_up = excluded.catch_up, jitter = excluded.jitter, input = excluded.input,
    queue = excluded.queue, priority = excluded.priority, key = excluded.key, timeout = excluded.timeout,
    metadata = excluded.metadata, revision = s.revision + 1,
    next_at = CASE WHEN s.plan = excluded.plan THEN s.next_at ELSE excluded.next_at END
WHERE ((s.workflow, s.version, s.plan, s.overlap, s.catch_up, s.jitter, s.input::text, s.queue, s.priority, s.key, s.timeout,
       s.metadata)
    IS DISTINCT FROM (excluded.workflow, excluded.version, excluded.plan, excluded.overlap, excluded.catch_up, excluded.jitter,
       excluded.input::text, excluded.queue, excluded.priority, excluded.key, excluded.timeout, excluded.metadata)) /*visible s*/

-- name: schedules
SELECT name, workflow, version, plan::text AS plan, overlap, catch_up, jitter, input::text AS input, queue, priority, key,
       timeout, metadata::text AS metadata, paused, next_at, last_at, last_run, skipped, revision, created_at,
       clock_timestamp() AS now
FROM {schema}.schedule s WHERE ($1::text IS NULL OR name = $1) /*visible s*/ ORDER BY name

-- name: due_schedules
SELECT s.name, s.workflow, coalesce(s.version, g.active, d.version) AS version,
       CASE WHEN g.name IS NULL OR coalesce(s.version, g.active) IS NOT NULL THEN d.lane END AS lane,
       s.plan::text AS plan, s.catch_up, s.jitter, s.queue, s.next_at, s.revision, clock_timestamp() AS now
FROM {schema}.schedule s LEFT JOIN LATERAL (
    SELECT d.version, d.lane FROM {schema}.definition d
    WHERE d.workflow = s.workflow AND (s.version IS NULL OR d.version = s.version) ORDER BY d.version DESC LIMIT 1) d ON true
-- Of a graph that is kept here (@namespace/name) the version that is active now counts; one that is retired has none.
LEFT JOIN {schema}.graph g ON s.workflow LIKE '@%'
    AND g.namespace = split_part(substr(s.workflow, 2), '/', 1) AND g.name = split_part(s.workflow, '/', 2)
WHERE s.next_at <= clock_timestamp() AND NOT s.paused ORDER BY s.next_at LIMIT 100

-- name: fire_schedule
SELECT {schema}.fire_schedule($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS outcomes

-- name: start_scheduled
SELECT {schema}.start_scheduled($1, $2, $3, $4, $5, $6) AS outcome

-- name: pause_schedule
-- What would have fired meanwhile is not made up for: the next time is reckoned when it is resumed.
UPDATE {schema}.schedule s SET paused = $2, next_at = CASE WHEN $2 THEN next_at ELSE $3 END, revision = revision + 1
WHERE name = $1 /*visible s*/ RETURNING name

-- name: delete_schedule
DELETE FROM {schema}.schedule s WHERE name = $1 /*visible s*/ RETURNING name
