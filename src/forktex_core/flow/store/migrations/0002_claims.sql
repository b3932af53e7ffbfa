-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- Claims up to p_slots due runs for a living worker and returns them (part 'r'), then, in a fresh snapshot, the journals
-- of those that the worker doesn't hold warm (part 'j') and the signals not yet taken (part 's').
--
-- The candidates of every (queue, lane, priority) come from one index probe each, so a backlog that nobody serves, or a
-- hundred thousand timers of another priority, cost nothing. They are chosen without locks and then locked in id order,
-- skipping what another worker has: only rows that are really taken are ever locked.
CREATE FUNCTION {schema}.claim_runs(p_worker bigint, p_queues text[], p_lanes text[], p_slots integer,
                                    p_warm uuid[], p_warm_claims integer[])
RETURNS TABLE (part text, run_id uuid, no bigint, key text, kind text, name text, failed boolean, value text,
               claim integer, attempt integer, at timestamptz, workflow text, version integer, queue text,
               parent_id uuid, parent_key text, metadata text)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_taken uuid[] := '{}';
    v_tried uuid[] := '{}';
    v_picked uuid[];
    v_got uuid[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR round IN 1..4 LOOP
        v_picked := ARRAY(
            WITH RECURSIVE bands AS (
                SELECT q, l, (SELECT max(r.priority) FROM {schema}.run r
                              WHERE r.queue = q AND r.lane = l AND r.due_at IS NOT NULL) AS p
                FROM unnest(p_queues) q CROSS JOIN unnest(p_lanes) l
                UNION ALL
                SELECT b.q, b.l, (SELECT max(r.priority) FROM {schema}.run r
                                  WHERE r.queue = b.q AND r.lane = b.l AND r.due_at IS NOT NULL AND r.priority < b.p)
                FROM bands b WHERE b.p IS NOT NULL
            )
            SELECT c.id FROM bands b CROSS JOIN LATERAL (
                SELECT r.id, r.due_at FROM {schema}.run r
                WHERE r.queue = b.q AND r.lane = b.l AND r.priority = b.p
                  AND r.due_at <= clock_timestamp() AND r.id <> ALL (v_tried)
                ORDER BY r.due_at LIMIT p_slots - cardinality(v_taken)) c
            WHERE b.p IS NOT NULL ORDER BY b.p DESC, c.due_at LIMIT p_slots - cardinality(v_taken));
        EXIT WHEN cardinality(v_picked) = 0;
        WITH locked AS MATERIALIZED (
            SELECT r.id FROM {schema}.run r WHERE r.id = ANY (v_picked) AND r.due_at <= clock_timestamp()
            ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
        ), changed AS (
            UPDATE {schema}.run r SET status = 'running', worker_id = p_worker, claim = r.claim + 1, due_at = NULL,
                   waiting_for = NULL, claimed_at = clock_timestamp(),
                   started_at = coalesce(r.started_at, clock_timestamp())
            FROM locked l WHERE r.id = l.id RETURNING r.id
        ) SELECT coalesce(array_agg(c.id), '{}') INTO v_got FROM changed c;
        v_taken := v_taken || v_got;
        v_tried := v_tried || v_picked;
        EXIT WHEN cardinality(v_taken) >= p_slots;
    END LOOP;
    IF cardinality(v_taken) = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT 'r', r.id, r.signal_seq, NULL, NULL, NULL, NULL::boolean, r.input::text, r.claim, NULL::integer,
                        r.started_at, r.workflow, r.version, r.queue, r.parent_id, r.parent_key, r.metadata::text
                 FROM {schema}.run r WHERE r.id = ANY (v_taken);
    -- A warm run is up to date exactly when nobody claimed it in between.
    RETURN QUERY SELECT 'j', j.run_id, j.seq::bigint, j.key, j.kind, j.name, j.failed, j.value::text, j.claim,
                        j.attempt::integer, j.at, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL
                 FROM {schema}.journal j WHERE j.run_id = ANY (ARRAY(
                     SELECT r.id FROM {schema}.run r WHERE r.id = ANY (v_taken) AND NOT EXISTS (
                         SELECT 1 FROM unnest(p_warm, p_warm_claims) AS w(id, claim)
                         WHERE w.id = r.id AND w.claim = r.claim - 1)))
                 ORDER BY j.run_id, j.seq;
    RETURN QUERY SELECT 's', s.run_id, s.no, s.key, NULL, s.name, NULL::boolean, s.payload::text, NULL::integer,
                        NULL::integer, s.sent_at, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL
                 FROM {schema}.signal s WHERE s.run_id = ANY (v_taken) AND NOT s.taken ORDER BY s.run_id, s.no;
END $$;
