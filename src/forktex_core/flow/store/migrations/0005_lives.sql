-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- What an idle worker asks once a second, in one statement: am I alive, do I lead, is anything due now or soon, which of my
-- runs got signals that no notification told me of, and which were taken from me? A leader also learns when there is something
-- to do for it (chores_at), so that an idle one asks nothing else; a new one, whose session's end made room for it (predecessor).
--
-- The leader's row is the authority. Its lock is the fast way to learn of a death: when the one in office is known to hold
-- it and somebody else can take it, that session is gone. A leader that has not been seen for some seconds is replaced in
-- any case: a frozen one that keeps its lock, and one behind a pooler, where there is no lock (p_lock_class is null).
CREATE FUNCTION {schema}.tick(p_worker bigint, p_lock_class integer, p_queues text[], p_lanes text[],
                              p_runs uuid[], p_seen bigint[], p_lead boolean,
                              p_trust_locks boolean, p_lease interval, p_grace interval,
                              OUT alive boolean, OUT term bigint, OUT now timestamptz, OUT next_due timestamptz,
                              OUT stale uuid[], OUT revoked uuid[], OUT chores_at timestamptz, OUT predecessor bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    office record;
    v_due timestamptz;
BEGIN
    UPDATE {schema}.worker w SET heartbeat_at = clock_timestamp() WHERE w.id = p_worker AND w.ended_at IS NULL
    RETURNING w.revoked INTO revoked;
    alive := FOUND;
    now := clock_timestamp();
    IF NOT alive THEN
        RETURN;
    END IF;
    IF p_lead THEN
        SELECT l.term, l.worker_id, l.locked, l.worker_id IS NULL OR l.seen_at < clock_timestamp() - interval '5 s' AS vacant
        INTO office FROM {schema}.leader l;
        IF office.worker_id = p_worker THEN
            UPDATE {schema}.leader l SET seen_at = clock_timestamp(),
                   locked = l.locked OR p_lock_class IS NOT NULL AND pg_try_advisory_lock(p_lock_class, 0)
            WHERE l.worker_id = p_worker RETURNING l.term INTO term;
        ELSIF office.vacant OR office.locked AND p_lock_class IS NOT NULL AND pg_try_advisory_lock(p_lock_class, 0) THEN
            UPDATE {schema}.leader l SET term = l.term + 1, worker_id = p_worker, elected_at = clock_timestamp(),
                   seen_at = clock_timestamp(), locked = p_lock_class IS NOT NULL AND pg_try_advisory_lock(p_lock_class, 0)
            WHERE l.term = office.term RETURNING l.term INTO term;
            IF FOUND AND office.locked AND p_lock_class IS NOT NULL AND pg_try_advisory_lock(p_lock_class, 0) THEN
                predecessor := office.worker_id;
            END IF;
        END IF;
        IF term IS NOT NULL THEN
            chores_at := {schema}.next_chore(p_worker, p_lock_class, p_trust_locks, p_lease, p_grace);
        END IF;
    END IF;
    SELECT min(d.due_at) INTO next_due FROM (
        WITH RECURSIVE bands AS (
            SELECT q, l, (SELECT max(r.priority) FROM {schema}.run r
                          WHERE r.queue = q AND r.lane = l AND r.due_at IS NOT NULL AND r.key IS NULL) AS p
            FROM unnest(p_queues) q CROSS JOIN unnest(p_lanes) l
            WHERE NOT EXISTS (SELECT 1 FROM {schema}.queue x WHERE x.name = q AND x.paused)
            UNION ALL
            SELECT b.q, b.l, (SELECT max(r.priority) FROM {schema}.run r WHERE r.queue = b.q AND r.lane = b.l
                              AND r.due_at IS NOT NULL AND r.key IS NULL AND r.priority < b.p)
            FROM bands b WHERE b.p IS NOT NULL
        )
        SELECT (SELECT r.due_at FROM {schema}.run r
                WHERE r.queue = b.q AND r.lane = b.l AND r.priority = b.p AND r.due_at IS NOT NULL AND r.key IS NULL
                ORDER BY r.due_at LIMIT 1) AS due_at FROM bands b WHERE b.p IS NOT NULL) d;
    -- Runs with a key: what is pending is due, what waits has a time.
    SELECT min(least((SELECT r.due_at FROM {schema}.run r WHERE r.queue = x.name AND r.lane = l AND r.key IS NOT NULL
                        AND r.status = 'pending' ORDER BY r.key LIMIT 1),
                     (SELECT r.due_at FROM {schema}.run r WHERE r.queue = x.name AND r.lane = l AND r.key IS NOT NULL
                        AND r.status = 'waiting' AND r.due_at IS NOT NULL ORDER BY r.due_at LIMIT 1)))
    INTO v_due FROM {schema}.queue x CROSS JOIN unnest(p_lanes) l WHERE x.name = ANY (p_queues) AND NOT x.paused;
    next_due := least(next_due, v_due);
    SELECT array_agg(r.id) INTO stale FROM unnest(p_runs, p_seen) AS a(id, seen)
    JOIN {schema}.run r ON r.id = a.id AND r.worker_id = p_worker AND r.signal_seq > a.seen;
END $$;

-- The workers that are gone, but for the one that asks. Absence of the session lock counts only when p_trust_locks (the leader
-- has been in office long enough for the living to reconnect; of its predecessor it counts at once) and, for a worker that is
-- older than the server's last start, some time (p_grace) after that start. A heartbeat older than the lease counts always.
CREATE FUNCTION {schema}.gone_workers(p_worker bigint, p_lock_class integer, p_trust_locks boolean, p_predecessor bigint,
                                      p_lease interval, p_grace interval) RETURNS bigint[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    RETURN ARRAY(
        SELECT w.id FROM {schema}.worker w WHERE w.ended_at IS NULL AND w.id <> p_worker AND (
            w.heartbeat_at < clock_timestamp() - p_lease
            OR ((p_trust_locks OR w.id = p_predecessor) AND w.session_lock
                AND (w.started_at > pg_postmaster_start_time()
                     OR clock_timestamp() > pg_postmaster_start_time() + p_grace)
                AND NOT EXISTS (
                SELECT 1 FROM pg_locks k WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 2
                  AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                  AND k.classid = p_lock_class::oid AND k.objid = (w.id % 2147483647)::oid)))
        ORDER BY w.id);
END $$;

-- When there is something for do_chores to do: now, at a moment to come, or (null) not that anybody knew of it. Locks nothing.
CREATE FUNCTION {schema}.next_chore(p_worker bigint, p_lock_class integer, p_trust_locks boolean, p_lease interval,
                                    p_grace interval) RETURNS timestamptz
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    IF cardinality({schema}.gone_workers(p_worker, p_lock_class, p_trust_locks, NULL, p_lease, p_grace)) > 0
       OR cardinality({schema}.scheduled_runs_in_turn()) > 0 THEN
        RETURN clock_timestamp();
    END IF;
    RETURN least((SELECT min(r.deadline_at) FROM {schema}.run r WHERE r.deadline_at IS NOT NULL AND r.finished_at IS NULL),
                 (SELECT min(s.next_at) FROM {schema}.schedule s WHERE NOT s.paused));
END $$;

-- The leader's chores, all in one statement, fenced by its term. Hands on the runs of workers that are gone, tells runs whose
-- time is up, and says whether a schedule is due.
CREATE FUNCTION {schema}.do_chores(p_worker bigint, p_term bigint, p_lock_class integer, p_trust_locks boolean,
                                   p_predecessor bigint, p_lease interval, p_grace interval,
                                   OUT in_office boolean, OUT ended bigint[],
                                   OUT queues text[], OUT told_workers bigint[], OUT told_runs uuid[], OUT finished uuid[],
                                   OUT schedules_due boolean)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    gone bigint;
    touched text[];
    late record;
BEGIN
    PERFORM 1 FROM {schema}.leader l WHERE l.term = p_term AND l.worker_id = p_worker FOR SHARE;
    in_office := FOUND;
    ended := '{}';
    queues := '{}';
    IF NOT in_office THEN
        RETURN;
    END IF;
    FOREACH gone IN ARRAY {schema}.gone_workers(p_worker, p_lock_class, p_trust_locks, p_predecessor, p_lease, p_grace)
    LOOP
        SELECT {schema}.end_worker(gone, 'gone') INTO touched;
        ended := ended || gone;
        queues := queues || touched;
    END LOOP;
    FOR late IN SELECT * FROM {schema}.time_out_runs(100) LOOP
        IF late.part = 'e' THEN
            finished := finished || late.run_id;
        ELSIF late.worker_id IS NOT NULL THEN
            told_workers := told_workers || late.worker_id;
            told_runs := told_runs || late.run_id;
        ELSE
            queues := queues || late.queue;
        END IF;
    END LOOP;
    queues := queues || {schema}.release_scheduled_runs();
    schedules_due := EXISTS (SELECT 1 FROM {schema}.schedule s WHERE s.next_at <= clock_timestamp() AND NOT s.paused);
END $$;

-- Runs whose time is up are asked to end by the engine's own signal, as cancel() does it: put_signals (0006) ends those at
-- once that have not begun.
CREATE FUNCTION {schema}.time_out_runs(p_most integer)
RETURNS TABLE (part text, run_id uuid, worker_id bigint, queue text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_late uuid[];
    v_payloads text[];
BEGIN
    WITH late AS MATERIALIZED (
        SELECT x.id, 'the run did not end within its timeout of ' || round(extract(epoch FROM x.timeout), 3)::float8 || ' s' AS why
        FROM {schema}.run x WHERE x.deadline_at <= clock_timestamp() AND x.finished_at IS NULL
        ORDER BY x.id LIMIT p_most FOR NO KEY UPDATE SKIP LOCKED
    ), told AS (
        UPDATE {schema}.run x SET deadline_at = NULL FROM late l WHERE x.id = l.id RETURNING x.id, l.why
    )
    SELECT array_agg(t.id ORDER BY t.id), array_agg(json_build_object('kind', 'timeout', 'reason', t.why, 'error',
        json_build_object('type', 'forktex_core.flow.errors.RunTimeout', 'message', t.why))::text ORDER BY t.id)
    INTO v_late, v_payloads FROM told t;
    IF v_late IS NOT NULL THEN
        RETURN QUERY SELECT * FROM {schema}.put_signals(v_late, array_fill('$cancel'::text, ARRAY[cardinality(v_late)]),
                                                        v_payloads);
    END IF;
END $$;

-- Ends a worker's life and makes its runs claimable. FOR UPDATE waits for its flushes in flight and shuts out later ones.
CREATE FUNCTION {schema}.end_worker(p_worker bigint, p_reason text) RETURNS text[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    touched text[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    UPDATE {schema}.worker w SET ended_at = clock_timestamp(), end_reason = p_reason WHERE w.id = p_worker;
    WITH held AS MATERIALIZED (
        SELECT r.id FROM {schema}.run r WHERE r.worker_id = p_worker ORDER BY r.id FOR NO KEY UPDATE
    ), freed AS (
        UPDATE {schema}.run r SET status = 'pending', worker_id = NULL, due_at = clock_timestamp()
        FROM held h WHERE r.id = h.id RETURNING r.queue
    ) SELECT array_agg(DISTINCT f.queue) INTO touched FROM freed f;
    RETURN coalesce(touched, '{}');
END $$;
