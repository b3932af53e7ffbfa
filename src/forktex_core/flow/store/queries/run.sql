-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: insert_run
-- One new run, due at once or at the time given. Nothing comes back when the idempotency key is taken.
INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, input, metadata, idempotency_key)
VALUES ($1, $2, $3, $4, $5, $6, 'pending', coalesce($7::timestamptz, clock_timestamp()), $8::text::json,
        $9::text::jsonb, $10)
ON CONFLICT (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id

-- name: insert_runs
-- Many runs of one definition in one statement.
INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, input, metadata)
SELECT a.id, $1, $2, $3, $4, $5, 'pending', coalesce($6::timestamptz, clock_timestamp()), a.input::json,
       $7::text::jsonb
FROM unnest($8::uuid[], $9::text[]) AS a(id, input)

-- name: run_by_idempotency_key
SELECT id FROM {schema}.run WHERE workflow = $1 AND idempotency_key = $2

-- name: outcomes
-- The runs among these that will not move any more by themselves, and those asked about for the first time ($2) that
-- there are not (their status is null).
SELECT a.id, r.workflow, r.version, r.status, r.output::text AS output, r.error::text AS error
FROM unnest($1::uuid[], $2::boolean[]) AS a(id, unsure) LEFT JOIN {schema}.run r ON r.id = a.id
WHERE r.finished_at IS NOT NULL OR (r.status = 'paused' AND r.error IS NOT NULL) OR (a.unsure AND r.id IS NULL)

-- name: claim_runs
-- Due runs, their journals and their signals, in one round trip.
SELECT * FROM {schema}.claim_runs($1, $2, $3, $4, $5, $6)

-- name: park_runs
SELECT * FROM {schema}.park_runs($1, $2, $3, $4, $5, $6)

-- name: finish_runs
SELECT * FROM {schema}.finish_runs($1, $2, $3, $4, $5, $6)

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
