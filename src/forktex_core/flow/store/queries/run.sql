-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: insert_run
-- One new run, due at once or at the time given. Nothing comes back when its idempotency or deduplication key is taken. The
-- same statement serves a caller's own session, on whatever driver: hence the spelled-out casts.
INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, input, metadata, idempotency_key,
                          key, deduplication_key, timeout, deadline_at/*columns*/)
SELECT x.id, x.workflow, x.version, x.lane, x.queue, x.priority,
       CASE WHEN x.key IS NOT NULL AND x.due > clock_timestamp() THEN 'waiting' ELSE 'pending' END,
       coalesce(x.due, clock_timestamp()), x.input, x.metadata, x.idempotency_key, x.key, x.deduplication_key, x.timeout,
       coalesce(x.due, clock_timestamp()) + x.timeout/*values*/
FROM (SELECT CAST($1 AS uuid) AS id, CAST($2 AS text) AS workflow, CAST($3 AS integer) AS version, CAST($4 AS text) AS lane,
             CAST($5 AS text) AS queue, CAST($6 AS smallint) AS priority,
             coalesce(to_timestamp(CAST($7 AS float8)),
             clock_timestamp() + make_interval(secs => CAST($14 AS float8))) AS due, CAST(CAST($8 AS text) AS json) AS input,
             CAST(CAST($9 AS text) AS jsonb) AS metadata, CAST($10 AS text) AS idempotency_key, CAST($11 AS text) AS key,
             CAST($12 AS text) AS deduplication_key, make_interval(secs => CAST($13 AS float8)) AS timeout) x /*settings*/
ON CONFLICT DO NOTHING
RETURNING id

-- name: insert_runs
-- Many runs of one definition in one statement; the ids and inputs come as two JSON arrays (or, on a link of our own, as
-- arrays: insert_runs_array).
INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, metadata, key, timeout, deadline_at,
                          input/*columns*/)
SELECT CAST(a.id AS uuid), x.workflow, x.version, x.lane, x.queue, x.priority,
       CASE WHEN x.key IS NOT NULL AND x.due > clock_timestamp() THEN 'waiting' ELSE 'pending' END,
       coalesce(x.due, clock_timestamp()), x.metadata, x.key, x.timeout, coalesce(x.due, clock_timestamp()) + x.timeout,
       CAST(i.input AS json)/*values*/
FROM (SELECT CAST($1 AS text) AS workflow, CAST($2 AS integer) AS version, CAST($3 AS text) AS lane, CAST($4 AS text) AS queue,
             CAST($5 AS smallint) AS priority, coalesce(to_timestamp(CAST($6 AS float8)),
             clock_timestamp() + make_interval(secs => CAST($10 AS float8))) AS due,
             CAST(CAST($7 AS text) AS jsonb) AS metadata, CAST($8 AS text) AS key,
             make_interval(secs => CAST($9 AS float8)) AS timeout) x /*settings*/
CROSS JOIN json_array_elements_text(CAST(CAST($11 AS text) AS json)) WITH ORDINALITY AS a(id, no)
JOIN json_array_elements_text(CAST(CAST($12 AS text) AS json)) WITH ORDINALITY AS i(input, no) ON i.no = a.no

-- name: insert_runs_array
INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, metadata, key, timeout, deadline_at,
                          input/*columns*/)
SELECT a.id, $1, $2, $3, $4, $5, CASE WHEN $8::text IS NOT NULL AND x.due > clock_timestamp() THEN 'waiting' ELSE 'pending' END,
       x.due, x.metadata, $8, x.timeout, x.due + x.timeout, a.input::json/*values*/
FROM (SELECT coalesce(to_timestamp($6::float8), clock_timestamp() + make_interval(secs => $10::float8), clock_timestamp()) AS due,
             $7::text::jsonb AS metadata, make_interval(secs => $9::float8) AS timeout) x /*settings*/
CROSS JOIN unnest($11::uuid[], $12::text[]) AS a(id, input)

-- name: run_by_key
-- The run that holds an idempotency key, or else the unfinished one that holds a deduplication key.
SELECT r.id FROM (
    SELECT 1 AS rank, id FROM {schema}.run
    WHERE workflow = CAST($1 AS text) AND idempotency_key = CAST($2 AS text)
    UNION ALL
    SELECT 2, id FROM {schema}.run
    WHERE queue = CAST($3 AS text) AND deduplication_key = CAST($4 AS text) AND finished_at IS NULL
) r ORDER BY r.rank LIMIT 1

-- name: outcomes
-- The runs among these that will not move any more by themselves, and those asked about for the first time ($2) that
-- there are not (their status is null).
SELECT a.id, r.workflow, r.version, r.status, r.output::text AS output, r.error::text AS error
FROM unnest($1::uuid[], $2::boolean[]) AS a(id, unsure) LEFT JOIN {schema}.run r ON r.id = a.id
WHERE r.finished_at IS NOT NULL OR (r.status = 'paused' AND r.error IS NOT NULL) OR (a.unsure AND r.id IS NULL)

-- name: run_view
-- A run as authorization sees it, if it is there for the principal.
SELECT r.id, r.workflow, r.version, r.queue, r.status, r.metadata::text AS metadata /*shown r*/
FROM {schema}.run r WHERE r.id = CAST($1 AS uuid) /*visible r*/

-- name: run_status
SELECT id, workflow, version, lane, queue, status, claim, error::text AS error FROM {schema}.run WHERE id = $1

-- name: claim_runs
-- Due runs, their journals and their signals, in one round trip.
SELECT * FROM {schema}.claim_runs($1, $2, $3, $4, $5, $6)

-- name: wake_runs
-- Parked runs that a worker has in memory, and what came for them: claimed, and taken where the run waits for nothing else.
SELECT * FROM {schema}.wake_runs($1, $2, $3, $4, $5, $6, $7, $8)

-- name: park_runs
SELECT * FROM {schema}.park_runs($1, $2, $3, $4, $5, $6)

-- name: finish_runs
SELECT * FROM {schema}.finish_runs($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: continue_runs
SELECT * FROM {schema}.continue_runs($1, $2, $3, $4)

-- name: release_runs
-- A worker that drains gives its runs back: due again at once.
UPDATE {schema}.run r SET status = 'pending', worker_id = NULL, due_at = clock_timestamp()
FROM unnest($2::uuid[], $3::integer[]) AS a(id, claim)
WHERE r.id = a.id AND r.worker_id = $1 AND r.claim = a.claim

-- name: claims_of
-- Whose these runs are and how they stand (asked after an ambiguous finish).
SELECT id, claim, status FROM {schema}.run WHERE id = ANY ($1::uuid[])

-- name: held_runs
-- What a worker holds, save what it may be claiming at this moment.
SELECT id, claim FROM {schema}.run WHERE worker_id = $1 AND claimed_at < clock_timestamp() - interval '2 s'

-- name: published
-- A value that a run published, and whether there is such a run at all.
SELECT r.id, p.key, p.value::text AS value FROM {schema}.run r
LEFT JOIN {schema}.published p ON p.run_id = r.id AND p.key = $2 WHERE r.id = $1
