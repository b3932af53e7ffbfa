-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- The first due runs without a key, best first. The candidates of every (queue, lane, priority) come from one index probe
-- each, so a backlog that nobody serves, or a hundred thousand timers of another priority, cost nothing.
-- How it is planned is set by its callers, for all that they call. The generic plan is forced wherever the indexes leave no
-- choice: planning anew at each call costs more than the query.
CREATE FUNCTION {schema}.due_runs(p_queues text[], p_lanes text[], p_most integer, p_tried uuid[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        WITH RECURSIVE bands AS (
            SELECT q, l, (SELECT max(r.priority) FROM {schema}.run r
                          WHERE r.queue = q AND r.lane = l AND r.due_at IS NOT NULL AND r.key IS NULL) AS p
            FROM unnest(p_queues) q CROSS JOIN unnest(p_lanes) l
            UNION ALL
            SELECT b.q, b.l, (SELECT max(r.priority) FROM {schema}.run r WHERE r.queue = b.q AND r.lane = b.l
                              AND r.due_at IS NOT NULL AND r.key IS NULL AND r.priority < b.p)
            FROM bands b WHERE b.p IS NOT NULL
        )
        SELECT c.id FROM bands b CROSS JOIN LATERAL (
            SELECT r.id, r.due_at FROM {schema}.run r
            WHERE r.queue = b.q AND r.lane = b.l AND r.priority = b.p AND r.key IS NULL
              AND r.due_at <= clock_timestamp() AND r.id <> ALL (p_tried)
            ORDER BY r.due_at LIMIT p_most) c
        WHERE b.p IS NOT NULL ORDER BY b.p DESC, c.due_at LIMIT p_most);
END $$;

-- Claims from queues without limits and keys. Candidates are chosen without locks and then locked in id order, skipping
-- what another worker has: only rows that are really taken are ever locked. Also says whether any of them may have a journal,
-- or an inbox.
CREATE FUNCTION {schema}.claim_plain(p_worker bigint, p_queues text[], p_lanes text[], p_slots integer, p_tried uuid[],
                                     OUT taken uuid[], OUT journaled boolean, OUT signalled boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_tried uuid[] := p_tried;
    v_picked uuid[];
    v_open integer;
    v_got record;
BEGIN
    taken := '{}';
    journaled := false;
    signalled := false;
    FOR round IN 1..4 LOOP
        v_open := p_slots - cardinality(taken);
        v_picked := {schema}.due_runs(p_queues, p_lanes, v_open, v_tried);
        EXIT WHEN cardinality(v_picked) = 0;
        WITH locked AS MATERIALIZED (
            SELECT r.id FROM {schema}.run r WHERE r.id = ANY (v_picked) AND r.due_at <= clock_timestamp()
            ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
        ), changed AS (
            UPDATE {schema}.run r SET status = 'running', worker_id = p_worker, claim = r.claim + 1, due_at = NULL,
                   waiting_for = NULL, claimed_at = clock_timestamp(), limited = false,
                   started_at = coalesce(r.started_at, clock_timestamp())
            FROM locked l WHERE r.id = l.id RETURNING r.id, r.claim, r.origin, r.signal_seq
        ) SELECT coalesce(array_agg(c.id), '{}') AS ids, coalesce(bool_or(c.claim > 1 OR c.origin IS NOT NULL), false) AS again,
                 coalesce(max(c.signal_seq), 0) > 0 AS told INTO v_got FROM changed c;
        taken := taken || v_got.ids;
        journaled := journaled OR v_got.again;
        signalled := signalled OR v_got.told;
        v_tried := v_tried || v_picked;
        EXIT WHEN cardinality(v_picked) < v_open OR cardinality(taken) >= p_slots;
    END LOOP;
END $$;

-- Claims up to p_slots due runs for a living worker and returns them (part 'r'), then, in a fresh snapshot, the journals
-- of those that the worker doesn't hold warm (part 'j') and the signals not yet taken (part 's'). In part 'r' no is the
-- run's signal_seq and attempt its generation. Part 'n' says when a rate limit lets more through.
CREATE FUNCTION {schema}.claim_runs(p_worker bigint, p_queues text[], p_lanes text[], p_slots integer,
                                    p_warm uuid[], p_warm_claims integer[])
RETURNS TABLE (part text, run_id uuid, no bigint, key text, kind text, name text, failed boolean, value text,
               claim integer, attempt integer, at timestamptz, workflow text, version integer, queue text,
               parent_id uuid, parent_key text, metadata text)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_plain text[] := p_queues;
    v_kept text[] := '{}';
    v_share integer;
    v_taken uuid[] := '{}';
    v_tried uuid[];
    v_journaled boolean := false;
    v_signalled boolean := false;
    v_next timestamptz;
    v_pass integer;
    v_name text;
    f record;
BEGIN
    -- What was taken from this worker and not yet acknowledged is not for it: see 0011_control.sql.
    SELECT w.revoked INTO v_tried FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR v_name IN SELECT q.name FROM {schema}.queue q WHERE q.name = ANY (p_queues) ORDER BY q.name LOOP
        v_plain := array_remove(v_plain, v_name);
        v_kept := v_kept || v_name;
    END LOOP;
    -- Kept queues get their share first, the others what remains, and the kept ones what remains then.
    v_share := ceil(p_slots::numeric / greatest(1, cardinality(v_kept) + (cardinality(v_plain) > 0)::integer));
    FOR v_pass IN 1..2 LOOP
        FOREACH v_name IN ARRAY v_kept LOOP
            EXIT WHEN cardinality(v_taken) >= p_slots;
            SELECT * INTO f FROM {schema}.claim_from_queue(p_worker, v_name, p_lanes, least(p_slots - cardinality(v_taken),
                CASE v_pass WHEN 1 THEN v_share ELSE p_slots END), v_tried);
            v_taken := v_taken || f.got;
            v_journaled := true;
            v_signalled := true;
            v_next := least(v_next, f.next_at);
        END LOOP;
        IF v_pass = 1 AND cardinality(v_plain) > 0 AND cardinality(v_taken) < p_slots THEN
            SELECT * INTO f FROM {schema}.claim_plain(p_worker, v_plain, p_lanes, p_slots - cardinality(v_taken), v_tried);
            v_taken := v_taken || f.taken;
            v_journaled := v_journaled OR f.journaled;
            v_signalled := v_signalled OR f.signalled;
        END IF;
        EXIT WHEN cardinality(v_kept) = 0;
    END LOOP;
    IF v_next IS NOT NULL THEN
        RETURN QUERY SELECT 'n', NULL::uuid, NULL::bigint, NULL, NULL, NULL, NULL::boolean, NULL, NULL::integer,
                            NULL::integer, v_next, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL;
    END IF;
    IF cardinality(v_taken) = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT 'r', r.id, r.signal_seq, r.origin::text, NULL, NULL, r.limited, r.input::text, r.claim, r.generation,
                        r.started_at, r.workflow, r.version, r.queue, r.parent_id, r.parent_key, r.metadata::text
                 FROM {schema}.run r WHERE r.id = ANY (v_taken);
    -- A warm run is up to date exactly when nobody claimed it in between.
    IF v_journaled THEN
        RETURN QUERY SELECT 'j', j.run_id, j.seq::bigint, j.key, j.kind, j.name, j.failed, j.value::text, j.claim,
                            j.attempt::integer, j.at, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL
                     FROM {schema}.journal j WHERE j.run_id = ANY (ARRAY(
                         SELECT r.id FROM {schema}.run r WHERE r.id = ANY (v_taken) AND NOT EXISTS (
                             SELECT 1 FROM unnest(p_warm, p_warm_claims) AS w(id, claim)
                             WHERE w.id = r.id AND w.claim = r.claim - 1)))
                     ORDER BY j.run_id, j.seq;
    END IF;
    IF v_signalled THEN
        RETURN QUERY SELECT 's', s.run_id, s.no, s.key, NULL, s.name, NULL::boolean, s.payload::text, NULL::integer,
                            NULL::integer, s.sent_at, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL
                     FROM {schema}.signal s WHERE s.run_id = ANY (v_taken) AND NOT s.taken ORDER BY s.run_id, s.no;
    END IF;
END $$;
