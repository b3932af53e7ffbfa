-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- Gives claimed runs back to wait. A run stays claimed when its inbox moved since the worker looked ('stale'), and is
-- reported 'lost' when it is not this worker's any more.
CREATE FUNCTION {schema}.park_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_seen bigint[],
                                   p_due timestamptz[], p_waiting_for text[])
RETURNS TABLE (run_id uuid, outcome text)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
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
        UPDATE {schema}.run r SET status = 'waiting', worker_id = NULL, warm_by = p_worker, due_at = a.due,
               waiting_for = a.waiting_for
        FROM held h JOIN asked a ON a.id = h.id AND a.claim = h.claim AND a.seen = h.signal_seq
        WHERE r.id = h.id RETURNING r.id
    )
    SELECT a.id, CASE WHEN p.id IS NOT NULL THEN 'parked' WHEN h.id IS NOT NULL AND h.claim = a.claim THEN 'stale'
                      ELSE 'lost' END
    FROM asked a LEFT JOIN parked p ON p.id = a.id LEFT JOIN held h ON h.id = a.id;
END $$;

-- Ends claimed runs. A child's end is a signal to its parent, in the same transaction; the children of the runs in p_closing
-- that are still open get what their parent_close says. Rows are locked in id order, children and parents alike, so two
-- batches never wait for each other in a circle.
-- Returns part 'e' for each run that ended, and part 'w' for each that is to be woken.
CREATE FUNCTION {schema}.finish_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_statuses text[],
                                     p_outputs text[], p_errors text[], p_closing uuid[], p_cancel text, p_terminate text)
RETURNS TABLE (part text, run_id uuid, worker_id bigint, queue text)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_parents uuid[];
    v_children uuid[] := '{}';
    v_policies text[] := '{}';
    v_ended uuid[];
    v_runs uuid[];
    v_names text[];
    v_payloads text[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT r.parent_id) FILTER (WHERE r.parent_id IS NOT NULL) INTO v_parents
    FROM {schema}.run r WHERE r.id = ANY (p_runs);
    IF v_parents IS NULL AND cardinality(p_closing) = 0 THEN
        RETURN QUERY
        UPDATE {schema}.run r SET status = a.status, worker_id = NULL, finished_at = CASE
                   WHEN a.status = 'paused' THEN NULL ELSE clock_timestamp() END,
               output = a.output::json, error = a.error::json
        FROM unnest(p_runs, p_claims, p_statuses, p_outputs, p_errors) AS a(id, claim, status, output, error)
        WHERE r.id = a.id AND r.worker_id = p_worker AND r.claim = a.claim
        RETURNING 'e', r.id, NULL::bigint, r.queue;
        RETURN;
    END IF;
    IF cardinality(p_closing) > 0 THEN
        SELECT coalesce(array_agg(c.id), '{}') INTO v_children FROM {schema}.run c
        WHERE c.parent_id = ANY (p_closing) AND c.finished_at IS NULL AND c.parent_close <> 'abandon';
    END IF;
    PERFORM 1 FROM {schema}.run r WHERE r.id = ANY (p_runs || v_parents || v_children) ORDER BY r.id FOR NO KEY UPDATE;
    WITH ended AS (
        UPDATE {schema}.run r SET status = a.status, worker_id = NULL, finished_at = CASE
                   WHEN a.status = 'paused' THEN NULL ELSE clock_timestamp() END,
               output = a.output::json, error = a.error::json
        FROM unnest(p_runs, p_claims, p_statuses, p_outputs, p_errors) AS a(id, claim, status, output, error)
        WHERE r.id = a.id AND r.worker_id = p_worker AND r.claim = a.claim
        RETURNING r.id, r.status, r.output, r.error, r.parent_id, r.parent_key
    )
    SELECT coalesce(array_agg(e.id), '{}'),
           coalesce(array_agg(e.parent_id) FILTER (WHERE t.tells), '{}'),
           coalesce(array_agg('$child:' || e.parent_key) FILTER (WHERE t.tells), '{}'),
           coalesce(array_agg(json_build_object('status', e.status, 'output', e.output, 'error', e.error)::text)
                    FILTER (WHERE t.tells), '{}')
    INTO v_ended, v_runs, v_names, v_payloads
    FROM ended e, LATERAL (SELECT e.parent_id IS NOT NULL AND e.status <> 'paused') AS t(tells);
    RETURN QUERY SELECT 'e', e.id, NULL::bigint, NULL::text FROM unnest(v_ended) AS e(id);
    SELECT coalesce(array_agg(c.id), '{}'), coalesce(array_agg(c.parent_close), '{}') INTO v_children, v_policies
    FROM {schema}.run c JOIN {schema}.run p ON p.id = c.parent_id
    WHERE c.id = ANY (v_children) AND c.finished_at IS NULL
      AND p.id = ANY (v_ended) AND p.finished_at IS NOT NULL;
    RETURN QUERY SELECT w.part, w.run_id, w.worker_id, w.queue FROM {schema}.put_signals(
        v_runs || v_children,
        v_names || array_fill('$cancel'::text, ARRAY[cardinality(v_children)]),
        v_payloads || ARRAY(SELECT CASE p.policy WHEN 'terminate' THEN p_terminate ELSE p_cancel END
                            FROM unnest(v_policies) WITH ORDINALITY AS p(policy, place) ORDER BY p.place)) w;
END $$;
