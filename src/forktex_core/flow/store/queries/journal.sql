-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: append_entries
-- The fenced group commit: any number of entries of any number of runs. The fence counts because it is locked: after
-- end_worker committed, the row no longer qualifies. Entries that are there already (a retried flush) are not counted.
-- An entry comes as one text, the literal of a journal_line: eleven arrays would cost the worker five times as much.
WITH fence AS MATERIALIZED (
    SELECT w.revoked FROM {schema}.worker w WHERE w.id = $1 AND w.ended_at IS NULL FOR KEY SHARE
), added AS (
    INSERT INTO {schema}.journal (run_id, key, seq, kind, name, failed, value, claim, attempt, worker_id, started_at, at)
    SELECT e.run_id, e.key, e.seq, e.kind, e.name, e.failed, e.value, e.claim, e.attempt, $1,
           to_timestamp(e.started_at), to_timestamp(e.at)
    FROM fence, unnest($2::text[]::{schema}.journal_line[]) AS e
    WHERE NOT e.run_id = ANY (fence.revoked)
    ON CONFLICT (run_id, key) DO NOTHING RETURNING 1
) SELECT count(*) FROM added

-- name: append_taking_signals
-- The same, for a batch in which signals are consumed: the signal and the entry that records it change together.
WITH fence AS MATERIALIZED (
    SELECT w.revoked FROM {schema}.worker w WHERE w.id = $1 AND w.ended_at IS NULL FOR KEY SHARE
), added AS (
    INSERT INTO {schema}.journal (run_id, key, seq, kind, name, failed, value, claim, attempt, worker_id, started_at, at)
    SELECT e.run_id, e.key, e.seq, e.kind, e.name, e.failed, e.value, e.claim, e.attempt, $1,
           to_timestamp(e.started_at), to_timestamp(e.at)
    FROM fence, unnest($2::text[]::{schema}.journal_line[]) AS e
    WHERE NOT e.run_id = ANY (fence.revoked)
    ON CONFLICT (run_id, key) DO NOTHING RETURNING 1
), taken AS (
    UPDATE {schema}.signal s SET taken = true, taken_seq = t.seq
    FROM fence, unnest($3::uuid[], $4::bigint[], $5::integer[]) AS t(run_id, no, seq)
    WHERE s.run_id = t.run_id AND s.no = t.no AND NOT t.run_id = ANY (fence.revoked)
) SELECT count(*) FROM added

-- name: entries_written
-- Which of these entries stand in the journal just as this worker made them (asked after an ambiguous flush).
SELECT j.run_id, j.key FROM {schema}.journal j
JOIN unnest($2::uuid[], $3::text[], $4::integer[], $5::integer[]) AS e(run_id, key, seq, claim)
  ON j.run_id = e.run_id AND j.key = e.key AND j.seq = e.seq AND j.claim = e.claim AND j.worker_id = $1

-- name: append_effects
-- The same, for a batch in which runs are started, signals sent or values published as well.
SELECT * FROM {schema}.append_effects($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37)

-- name: settle_entry
SELECT * FROM {schema}.settle_entry($1, $2)

-- name: journal
-- A run's journal in the order in which it was made.
SELECT key, seq, kind, name, failed, value::text AS value, claim, attempt, worker_id, started_at, at
FROM {schema}.journal WHERE run_id = $1 ORDER BY seq
