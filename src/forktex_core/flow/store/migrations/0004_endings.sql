-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- Gives claimed runs back to wait. A run stays claimed when its inbox moved since the worker looked ('stale'), and is
-- reported 'lost' when it is not this worker's any more.
CREATE FUNCTION {schema}.park_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_seen bigint[],
                                   p_due timestamptz[], p_waiting_for text[])
RETURNS TABLE (run_id uuid, outcome text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_runs, p_claims, p_seen, p_due, p_waiting_for) AS a(id, claim, seen, due, waiting_for)
    ), held AS MATERIALIZED (
        SELECT r.id, r.claim, r.signal_seq FROM {schema}.run r
        WHERE r.id = ANY (p_runs) AND r.worker_id = p_worker ORDER BY r.id FOR NO KEY UPDATE
    ), parked AS (
        UPDATE {schema}.run r SET status = 'waiting', worker_id = NULL, due_at = a.due, waiting_for = a.waiting_for
        FROM held h JOIN asked a ON a.id = h.id AND a.claim = h.claim AND a.seen = h.signal_seq
        WHERE r.id = h.id RETURNING r.id
    )
    SELECT a.id, CASE WHEN p.id IS NOT NULL THEN 'parked' WHEN h.id IS NOT NULL AND h.claim = a.claim THEN 'stale'
                      ELSE 'lost' END
    FROM asked a LEFT JOIN parked p ON p.id = a.id LEFT JOIN held h ON h.id = a.id;
END $$;

-- Ends claimed runs. A child's end is a signal to its parent, in the same transaction. Rows are locked in id order,
-- children and parents alike, so two batches never wait for each other in a circle.
CREATE FUNCTION {schema}.finish_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_statuses text[],
                                     p_outputs text[], p_errors text[])
RETURNS TABLE (run_id uuid, parent_id uuid, parent_worker bigint, parent_queue text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    parents uuid[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT r.parent_id) FILTER (WHERE r.parent_id IS NOT NULL) INTO parents
    FROM {schema}.run r WHERE r.id = ANY (p_runs);
    IF parents IS NULL THEN
        RETURN QUERY
        UPDATE {schema}.run r SET status = a.status, worker_id = NULL, finished_at = CASE
                   WHEN a.status = 'paused' THEN NULL ELSE clock_timestamp() END,
               output = a.output::json, error = a.error::json
        FROM unnest(p_runs, p_claims, p_statuses, p_outputs, p_errors) AS a(id, claim, status, output, error)
        WHERE r.id = a.id AND r.worker_id = p_worker AND r.claim = a.claim
        RETURNING r.id, NULL::uuid, NULL::bigint, NULL::text;
        RETURN;
    END IF;
    PERFORM 1 FROM {schema}.run r WHERE r.id = ANY (p_runs || parents) ORDER BY r.id FOR NO KEY UPDATE;
    RETURN QUERY
    WITH ended AS (
        UPDATE {schema}.run r SET status = a.status, worker_id = NULL, finished_at = CASE
                   WHEN a.status = 'paused' THEN NULL ELSE clock_timestamp() END,
               output = a.output::json, error = a.error::json
        FROM unnest(p_runs, p_claims, p_statuses, p_outputs, p_errors) AS a(id, claim, status, output, error)
        WHERE r.id = a.id AND r.worker_id = p_worker AND r.claim = a.claim
        RETURNING r.id, r.status, r.output, r.error, r.parent_id, r.parent_key
    ), told AS (
        INSERT INTO {schema}.signal (run_id, no, name, payload)
        SELECT p.id, p.signal_seq + row_number() OVER (PARTITION BY p.id ORDER BY e.id), '$child:' || e.parent_key,
               json_build_object('status', e.status, 'output', e.output, 'error', e.error)
        FROM ended e JOIN {schema}.run p ON p.id = e.parent_id
        WHERE p.finished_at IS NULL AND e.status <> 'paused' RETURNING run_id
    ), woken AS (
        UPDATE {schema}.run p SET signal_seq = p.signal_seq + t.n, due_at = CASE WHEN p.status = 'waiting'
                   THEN least(p.due_at, clock_timestamp()) ELSE p.due_at END
        FROM (SELECT t.run_id, count(*) AS n FROM told t GROUP BY t.run_id) t
        WHERE p.id = t.run_id RETURNING p.id, p.worker_id, p.queue
    )
    SELECT e.id, w.id, w.worker_id, w.queue FROM ended e LEFT JOIN woken w ON w.id = e.parent_id;
END $$;
