-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- The worker to tell of a signal to a run that waits: the one that has it in memory, while that one lives.
CREATE FUNCTION {schema}.waker(p_status text, p_warm_by bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT w.id FROM {schema}.worker w WHERE p_status = 'waiting' AND w.id = p_warm_by AND w.ended_at IS NULL
$$;

-- Claims parked runs that a worker holds in memory, if nobody claimed them since it parked them (rows as claim_runs returns
-- them), with the signals beyond those that it has seen. Where p_keys has a key, the run waits for one thing only: the first
-- new signal of one of the names (a text[] each, as text) is taken and journaled here, as entry p_seqs, unless a request to
-- cancel came before it. Queues with limits, and runs with a key, are left to claim_runs.
-- One run after the other, in id order, by the simplest statements: between a signal and the body's going on every one counts.
CREATE FUNCTION {schema}.wake_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_seen bigint[], p_keys text[],
                                   p_seqs integer[], p_labels text[], p_names text[])
RETURNS TABLE (part text, run_id uuid, no bigint, key text, kind text, name text, failed boolean, value text,
               claim integer, attempt integer, at timestamptz, workflow text, version integer, queue text,
               parent_id uuid, parent_key text, metadata text)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_revoked uuid[];
    v_key text;
    v_names text[];
    r record;
    s record;
BEGIN
    SELECT w.revoked INTO v_revoked FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR i IN 1..cardinality(p_runs) LOOP
        PERFORM 1 FROM {schema}.run x WHERE x.id = p_runs[i] AND x.claim = p_claims[i] AND x.status = 'waiting'
            AND x.due_at <= clock_timestamp() AND x.key IS NULL AND NOT x.id = ANY (v_revoked)
            AND NOT EXISTS (SELECT 1 FROM {schema}.queue q WHERE q.name = x.queue)
        FOR NO KEY UPDATE OF x SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        UPDATE {schema}.run x SET status = 'running', worker_id = p_worker, claim = x.claim + 1, due_at = NULL,
               waiting_for = NULL, claimed_at = clock_timestamp(), limited = false
        WHERE x.id = p_runs[i]
        RETURNING x.signal_seq, x.claim, x.started_at, x.workflow, x.version, x.queue, x.generation INTO r;
        part := 'r';
        run_id := p_runs[i];
        no := r.signal_seq;
        key := NULL;
        name := NULL;
        failed := false;
        value := NULL;
        claim := r.claim;
        attempt := r.generation;
        at := r.started_at;
        workflow := r.workflow;
        version := r.version;
        queue := r.queue;
        RETURN NEXT;
        v_key := p_keys[i];
        v_names := p_names[i]::text[];
        FOR s IN SELECT x.no, x.name, x.payload::text AS payload, x.sent_at FROM {schema}.signal x
                 WHERE x.run_id = p_runs[i] AND x.no > p_seen[i] AND NOT x.taken ORDER BY x.no LOOP
            no := s.no;
            IF v_key IS NOT NULL AND s.name = ANY (v_names) THEN
                part := 'j';
                key := v_key;
                name := p_labels[i];
                no := p_seqs[i];
                INSERT INTO {schema}.journal AS j (run_id, key, seq, kind, name, failed, value, claim, attempt, worker_id,
                                                   started_at, at)
                VALUES (p_runs[i], v_key, p_seqs[i], 'signal', p_labels[i], false,
                        ('[' || s.no || ',' || to_json(s.name) || ',' || coalesce(s.payload, 'null') || ']')::json,
                        r.claim, 1, p_worker, clock_timestamp(), clock_timestamp())
                RETURNING j.kind, j.value::text, j.at INTO kind, value, at;
                UPDATE {schema}.signal x SET taken = true, taken_seq = p_seqs[i]
                WHERE x.run_id = p_runs[i] AND x.no = s.no;
                v_key := NULL;
            ELSE
                IF s.name = '$cancel' THEN
                    v_key := NULL;
                END IF;
                part := 's';
                key := NULL;
                name := s.name;
                value := s.payload;
                at := s.sent_at;
            END IF;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END $$;
