-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- The worker to tell of a signal to a run that waits: the one that has it in memory, while that one lives.
CREATE FUNCTION {schema}.waker(p_status text, p_warm_by bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT w.id FROM {schema}.worker w WHERE p_status = 'waiting' AND w.id = p_warm_by AND w.ended_at IS NULL
$$;

-- Claims parked runs that a worker holds in memory, if nobody claimed them since it parked them, with their new signals
-- (rows as claim_runs returns them). Where p_keys has a key, the run waits for one thing only: the first signal of one of
-- p_names (JSON) is taken and journaled here, as entry p_seqs, unless the run is to be cancelled. Queues with limits, and
-- runs with a key, are left to claim_runs.
CREATE FUNCTION {schema}.wake_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_keys text[], p_seqs integer[],
                                   p_labels text[], p_names text[])
RETURNS TABLE (part text, run_id uuid, no bigint, key text, kind text, name text, failed boolean, value text,
               claim integer, attempt integer, at timestamptz, workflow text, version integer, queue text,
               parent_id uuid, parent_key text, metadata text)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_revoked uuid[];
    v_got uuid[];
    v_claims integer[];
BEGIN
    SELECT w.revoked INTO v_revoked FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH locked AS MATERIALIZED (
        SELECT r.id FROM {schema}.run r JOIN unnest(p_runs, p_claims) AS a(id, claim) ON r.id = a.id AND r.claim = a.claim
        WHERE r.status = 'waiting' AND r.due_at <= clock_timestamp() AND r.key IS NULL AND NOT r.id = ANY (v_revoked)
          AND NOT EXISTS (SELECT 1 FROM {schema}.queue q WHERE q.name = r.queue)
        ORDER BY r.id FOR NO KEY UPDATE OF r SKIP LOCKED
    ), changed AS (
        UPDATE {schema}.run r SET status = 'running', worker_id = p_worker, claim = r.claim + 1, due_at = NULL,
               waiting_for = NULL, claimed_at = clock_timestamp(), limited = false
        FROM locked l WHERE r.id = l.id RETURNING r.id, r.claim
    ) SELECT array_agg(c.id), array_agg(c.claim) INTO v_got, v_claims FROM changed c;
    IF v_got IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT 'r', r.id, r.signal_seq, r.origin::text, NULL, NULL, r.limited, NULL, r.claim, r.generation,
                        r.started_at, r.workflow, r.version, r.queue, r.parent_id, r.parent_key, r.metadata::text
                 FROM {schema}.run r WHERE r.id = ANY (v_got);
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT g.id, g.claim, a.key, a.seq, a.label, ARRAY(SELECT json_array_elements_text(a.names::json)) AS names
        FROM unnest(v_got, v_claims) AS g(id, claim)
        JOIN unnest(p_runs, p_keys, p_seqs, p_labels, p_names) AS a(id, key, seq, label, names) ON a.id = g.id
        WHERE a.key IS NOT NULL
    ), first AS MATERIALIZED (
        SELECT a.id, a.claim, a.key, a.seq, a.label, s.no, s.name, s.payload FROM asked a CROSS JOIN LATERAL (
            SELECT x.no, x.name, x.payload FROM {schema}.signal x
            WHERE x.run_id = a.id AND NOT x.taken AND x.name = ANY (a.names) ORDER BY x.no LIMIT 1) s
        WHERE NOT EXISTS (SELECT 1 FROM {schema}.signal x WHERE x.run_id = a.id AND NOT x.taken AND x.name = '$cancel')
    ), added AS (
        INSERT INTO {schema}.journal (run_id, key, seq, kind, name, failed, value, claim, attempt, worker_id, started_at, at)
        SELECT f.id, f.key, f.seq, 'signal', f.label, false,
               ('[' || f.no || ',' || to_json(f.name) || ',' || coalesce(f.payload::text, 'null') || ']')::json,
               f.claim, 1, p_worker, clock_timestamp(), clock_timestamp() FROM first f
        RETURNING run_id, key, seq, kind, name, failed, value, claim, attempt, at
    ), taken AS (
        UPDATE {schema}.signal s SET taken = true, taken_seq = f.seq FROM first f WHERE s.run_id = f.id AND s.no = f.no
    )
    SELECT 'j', j.run_id, j.seq::bigint, j.key, j.kind, j.name, j.failed, j.value::text, j.claim, j.attempt::integer, j.at,
           NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL FROM added j;
    RETURN QUERY SELECT 's', s.run_id, s.no, s.key, NULL, s.name, NULL::boolean, s.payload::text, NULL::integer,
                        NULL::integer, s.sent_at, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL
                 FROM {schema}.signal s WHERE s.run_id = ANY (v_got) AND NOT s.taken ORDER BY s.run_id, s.no;
END $$;
