-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- What runs show to the outside while they go on. Values change in place (HOT: no indexed column is touched). A value of an
-- earlier claim never takes the place of a later one's: the worker that had the run before may be late with it.
CREATE TABLE {schema}.published (
    run_id uuid NOT NULL,
    key    text COLLATE "C" NOT NULL,
    value  json,
    claim  integer NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, key)
) WITH (fillfactor = 70);

-- Puts signals into many inboxes, in the order given. All rows that may change are locked first, in id order. What is sent
-- to a run that has ended, or never was, is left out. Returns part 'w' for each run to be woken, 'e' for each that ended.
--
-- The signal '$cancel' ends a run at once that has not begun, or that stands still with an error: no code of it could clean
-- up anything. Its payload holds kind (cancel, timeout, terminate), reason, and error: what the run's row says then. A run
-- that an operator paused goes on, so that its body can clean up.
CREATE FUNCTION {schema}.put_signals(p_runs uuid[], p_names text[], p_payloads text[])
RETURNS TABLE (part text, run_id uuid, worker_id bigint, queue text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_cancel uuid[] := ARRAY(SELECT a.id FROM unnest(p_runs, p_names) AS a(id, name) WHERE a.name = '$cancel');
    v_parents uuid[];
    v_names text[];
    v_payloads text[];
    v_ended uuid[];
    v_queues text[];
BEGIN
    IF cardinality(v_cancel) > 0 THEN
        SELECT coalesce(array_agg(r.parent_id), '{}') INTO v_parents FROM {schema}.run r
        WHERE r.id = ANY (v_cancel) AND r.parent_id IS NOT NULL AND r.finished_at IS NULL;
    END IF;
    PERFORM 1 FROM {schema}.run r WHERE r.id = ANY (p_runs || v_parents) ORDER BY r.id FOR NO KEY UPDATE;
    IF cardinality(v_cancel) > 0 THEN
        WITH asked AS (
            SELECT DISTINCT ON (a.id) a.id, a.payload::json AS payload
            FROM unnest(p_runs, p_names, p_payloads) WITH ORDINALITY AS a(id, name, payload, place)
            WHERE a.name = '$cancel' ORDER BY a.id, a.place
        ), ended AS (
            UPDATE {schema}.run r SET status = CASE a.payload->>'kind' WHEN 'timeout' THEN 'failed' ELSE 'cancelled' END,
                   due_at = NULL, finished_at = clock_timestamp(), error = a.payload->'error'
            FROM asked a WHERE r.id = a.id
              AND ((r.status = 'pending' AND r.started_at IS NULL) OR (r.status = 'paused' AND r.error IS NOT NULL))
            RETURNING r.id, r.queue, r.status, r.error, r.parent_id, r.parent_key
        )
        SELECT array_agg(e.id), array_agg(e.queue),
               coalesce(array_agg(e.parent_id) FILTER (WHERE e.parent_id IS NOT NULL), '{}'),
               coalesce(array_agg('$child:' || e.parent_key) FILTER (WHERE e.parent_id IS NOT NULL), '{}'),
               coalesce(array_agg(json_build_object('status', e.status, 'output', NULL, 'error', e.error)::text)
                        FILTER (WHERE e.parent_id IS NOT NULL), '{}')
        INTO v_ended, v_queues, v_parents, v_names, v_payloads FROM ended e;
        RETURN QUERY SELECT 'e', e.id, NULL::bigint, e.queue FROM unnest(v_ended, v_queues) AS e(id, queue);
        p_runs := p_runs || v_parents;
        p_names := p_names || v_names;
        p_payloads := p_payloads || v_payloads;
        UPDATE {schema}.run r SET status = 'pending', due_at = clock_timestamp()
        WHERE r.id = ANY (v_cancel) AND r.status = 'paused' AND r.error IS NULL;
    END IF;
    RETURN QUERY
    WITH added AS (
        INSERT INTO {schema}.signal (run_id, no, name, payload)
        SELECT r.id, r.signal_seq + row_number() OVER (PARTITION BY r.id ORDER BY a.place), a.name, a.payload::json
        FROM unnest(p_runs, p_names, p_payloads) WITH ORDINALITY AS a(id, name, payload, place)
        JOIN {schema}.run r ON r.id = a.id
        WHERE r.finished_at IS NULL RETURNING run_id
    )
    UPDATE {schema}.run r SET signal_seq = r.signal_seq + t.n, due_at = CASE WHEN r.status = 'waiting'
           THEN least(r.due_at, clock_timestamp()) ELSE r.due_at END
    FROM (SELECT s.run_id, count(*) AS n FROM added s GROUP BY s.run_id) t
    WHERE r.id = t.run_id RETURNING 'w', r.id, coalesce(r.worker_id, {schema}.waker(r.status, r.warm_by)), r.queue;
END $$;

-- Whether the body of a run may signal another one. Columns of extensions that isolate replace it (store/columns.py); as
-- it stands it costs nothing, for it is inlined.
CREATE FUNCTION {schema}.reaches(p_from uuid, p_to uuid) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT true $$;

-- The fenced append for entries that have effects: signals taken, runs started, signals sent, values published. An effect
-- belongs to an entry (its place in the arrays, from 1) and happens only if that entry is new; a value of place 0 belongs to
-- none. Order of locks: the fence, then runs by id.
-- Returns part 'n' with the number of new entries, then what put_signals returns, and part 's' for queues with new runs.
CREATE FUNCTION {schema}.append_effects(
    p_worker bigint,
    p_runs uuid[], p_keys text[], p_seqs integer[], p_kinds text[], p_names text[], p_failed boolean[], p_values text[],
    p_claims integer[], p_attempts integer[], p_started float8[], p_at float8[],
    p_taken_runs uuid[], p_taken_nos bigint[], p_taken_seqs integer[],
    s_places integer[], s_ids uuid[], s_workflows text[], s_versions integer[], s_lanes text[], s_queues text[],
    s_priorities integer[], s_dues timestamptz[], s_inputs text[], s_metadata text[], s_parents uuid[],
    s_parent_keys text[], s_closes text[],
    m_places integer[], m_runs uuid[], m_names text[], m_payloads text[],
    v_places integer[], v_runs uuid[], v_keys text[], v_values text[], v_claims integer[])
RETURNS TABLE (part text, run_id uuid, worker_id bigint, queue text, n bigint)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_revoked uuid[];
    v_added integer[];
BEGIN
    SELECT w.revoked INTO v_revoked FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'n', NULL::uuid, NULL::bigint, NULL::text, 0::bigint;
        RETURN;
    END IF;
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_runs, p_keys, p_seqs, p_kinds, p_names, p_failed, p_values, p_claims, p_attempts,
                             p_started, p_at) WITH ORDINALITY
               AS e(run_id, key, seq, kind, name, failed, value, claim, attempt, started_at, at, place)
        WHERE NOT e.run_id = ANY (v_revoked)
    ), added AS (
        INSERT INTO {schema}.journal (run_id, key, seq, kind, name, failed, value, claim, attempt, worker_id, started_at, at)
        SELECT e.run_id, e.key, e.seq, e.kind, e.name, e.failed, e.value::json, e.claim, e.attempt, p_worker,
               to_timestamp(e.started_at), to_timestamp(e.at) FROM asked e
        ON CONFLICT (run_id, key) DO NOTHING RETURNING run_id, key
    )
    SELECT coalesce(array_agg(e.place), '{}') INTO v_added
    FROM added a JOIN asked e ON e.run_id = a.run_id AND e.key = a.key;
    RETURN QUERY SELECT 'n', NULL::uuid, NULL::bigint, NULL::text, cardinality(v_added)::bigint;
    IF cardinality(p_taken_runs) > 0 THEN
        UPDATE {schema}.signal s SET taken = true, taken_seq = t.seq
        FROM unnest(p_taken_runs, p_taken_nos, p_taken_seqs) AS t(run_id, no, seq)
        WHERE s.run_id = t.run_id AND s.no = t.no AND NOT t.run_id = ANY (v_revoked);
    END IF;
    IF cardinality(s_ids) > 0 THEN
        RETURN QUERY
        WITH started AS (
            INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, input, metadata,
                                      parent_id, parent_key, parent_close, started_by)
            SELECT s.id, s.workflow, s.version, s.lane, s.queue, s.priority, 'pending',
                   coalesce(s.due, clock_timestamp()), s.input::json, s.metadata::jsonb, s.parent, s.parent_key, s.closes,
                   CASE WHEN s.parent IS NULL THEN p_runs[s.place] END
            FROM unnest(s_places, s_ids, s_workflows, s_versions, s_lanes, s_queues, s_priorities, s_dues, s_inputs,
                        s_metadata, s_parents, s_parent_keys, s_closes)
                 AS s(place, id, workflow, version, lane, queue, priority, due, input, metadata, parent, parent_key, closes)
            WHERE s.place = ANY (v_added)
            ON CONFLICT (id) DO NOTHING RETURNING queue
        )
        SELECT DISTINCT 's', NULL::uuid, NULL::bigint, s.queue, NULL::bigint FROM started s;
    END IF;
    IF cardinality(v_runs) > 0 THEN
        INSERT INTO {schema}.published AS p (run_id, key, value, claim)
        SELECT v.run_id, v.key, v.value::json, v.claim
        FROM unnest(v_places, v_runs, v_keys, v_values, v_claims) AS v(place, run_id, key, value, claim)
        WHERE (v.place = 0 OR v.place = ANY (v_added)) AND NOT v.run_id = ANY (v_revoked)
        ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value, claim = excluded.claim, at = clock_timestamp()
        WHERE p.claim <= excluded.claim;
    END IF;
    IF cardinality(m_runs) > 0 AND cardinality(v_added) > 0 THEN
        SELECT coalesce(array_agg(m.run ORDER BY m.no), '{}'), coalesce(array_agg(m.name ORDER BY m.no), '{}'),
               coalesce(array_agg(m.payload ORDER BY m.no), '{}')
        INTO m_runs, m_names, m_payloads
        FROM unnest(m_places, m_runs, m_names, m_payloads) WITH ORDINALITY AS m(place, run, name, payload, no)
        WHERE m.place = ANY (v_added) AND {schema}.reaches(p_runs[m.place], m.run);
        RETURN QUERY SELECT w.part, w.run_id, w.worker_id, w.queue, NULL::bigint
                     FROM {schema}.put_signals(m_runs, m_names, m_payloads) w;
    END IF;
END $$;

-- What became of an entry whose commit was not acknowledged. The probe waits for whoever is writing that key, and is rolled
-- back: what is not there afterwards never will be.
CREATE FUNCTION {schema}.settle_entry(p_run uuid, p_key text)
RETURNS TABLE (worker_id bigint, claim integer, attempt integer, seq integer)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    BEGIN
        INSERT INTO {schema}.journal (run_id, key, seq, kind, name, failed, claim, attempt, worker_id, started_at, at)
        VALUES (p_run, p_key, 0, 'probe', 'probe', true, 0, 0, 0, clock_timestamp(), clock_timestamp());
        RAISE EXCEPTION 'probe' USING ERRCODE = 'FFP01';
    EXCEPTION
        WHEN unique_violation OR SQLSTATE 'FFP01' THEN NULL;
    END;
    RETURN QUERY SELECT j.worker_id, j.claim, j.attempt, j.seq FROM {schema}.journal j
                 WHERE j.run_id = p_run AND j.key = p_key;
END $$;

-- Begins the next generation of claimed runs: a new input and an empty journal; the inbox stays as it is.
CREATE FUNCTION {schema}.continue_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_inputs text[])
RETURNS TABLE (run_id uuid, queue text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_held uuid[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_held := ARRAY(
        SELECT h.id FROM (
            SELECT r.id, r.claim FROM {schema}.run r WHERE r.id = ANY (p_runs) AND r.worker_id = p_worker
            ORDER BY r.id FOR NO KEY UPDATE) h
        JOIN unnest(p_runs, p_claims) AS a(id, claim) ON a.id = h.id AND a.claim = h.claim);
    DELETE FROM {schema}.journal j WHERE j.run_id = ANY (v_held);
    RETURN QUERY
    UPDATE {schema}.run r SET status = 'pending', worker_id = NULL, due_at = clock_timestamp(), started_at = NULL,
           waiting_for = NULL, input = a.input::json, generation = r.generation + 1
    FROM unnest(p_runs, p_inputs) AS a(id, input)
    WHERE r.id = a.id AND r.id = ANY (v_held) RETURNING r.id, r.queue;
END $$;
