-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- What an idle worker asks once a second, in one statement: am I alive, do I lead, is anything due now or soon, and which
-- of my runs got signals that no notification told me of?
CREATE FUNCTION {schema}.tick(p_worker bigint, p_lock_class integer, p_queues text[], p_lanes text[],
                              p_runs uuid[], p_seen bigint[], p_lead boolean,
                              OUT alive boolean, OUT term bigint, OUT now timestamptz, OUT next_due timestamptz,
                              OUT stale uuid[])
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
    UPDATE {schema}.worker w SET heartbeat_at = clock_timestamp() WHERE w.id = p_worker AND w.ended_at IS NULL;
    alive := FOUND;
    now := clock_timestamp();
    IF NOT alive THEN
        RETURN;
    END IF;
    IF p_lead THEN
        SELECT l.term INTO term FROM {schema}.leader l WHERE l.worker_id = p_worker;
        IF term IS NULL AND p_lock_class IS NOT NULL AND pg_try_advisory_lock(p_lock_class, 0) THEN
            UPDATE {schema}.leader l SET term = l.term + 1, worker_id = p_worker, elected_at = clock_timestamp(),
                   seen_at = clock_timestamp() RETURNING l.term INTO term;
        END IF;
    END IF;
    SELECT min(d.due_at) INTO next_due FROM (
        WITH RECURSIVE bands AS (
            SELECT q, l, (SELECT max(r.priority) FROM {schema}.run r
                          WHERE r.queue = q AND r.lane = l AND r.due_at IS NOT NULL) AS p
            FROM unnest(p_queues) q CROSS JOIN unnest(p_lanes) l
            UNION ALL
            SELECT b.q, b.l, (SELECT max(r.priority) FROM {schema}.run r
                              WHERE r.queue = b.q AND r.lane = b.l AND r.due_at IS NOT NULL AND r.priority < b.p)
            FROM bands b WHERE b.p IS NOT NULL
        )
        SELECT (SELECT r.due_at FROM {schema}.run r
                WHERE r.queue = b.q AND r.lane = b.l AND r.priority = b.p AND r.due_at IS NOT NULL
                ORDER BY r.due_at LIMIT 1) AS due_at FROM bands b WHERE b.p IS NOT NULL) d;
    SELECT array_agg(r.id) INTO stale FROM unnest(p_runs, p_seen) AS a(id, seen)
    JOIN {schema}.run r ON r.id = a.id AND r.worker_id = p_worker AND r.signal_seq > a.seen;
END $$;

-- The leader's chores, fenced by its term: hands on the runs of workers that are gone. Absence of the session lock counts
-- only when p_trust_locks (the leader has been in office long enough for the living to reconnect) and, for a worker that is
-- older than the server's last start, some seconds after that start. A heartbeat older than the lease counts always.
CREATE FUNCTION {schema}.do_chores(p_worker bigint, p_term bigint, p_lock_class integer, p_trust_locks boolean,
                                   p_lease interval, OUT in_office boolean, OUT ended bigint[], OUT queues text[])
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    gone bigint;
    touched text[];
BEGIN
    PERFORM 1 FROM {schema}.leader l WHERE l.term = p_term AND l.worker_id = p_worker FOR SHARE;
    in_office := FOUND;
    ended := '{}';
    queues := '{}';
    IF NOT in_office THEN
        RETURN;
    END IF;
    FOR gone IN
        SELECT w.id FROM {schema}.worker w WHERE w.ended_at IS NULL AND w.id <> p_worker AND (
            w.heartbeat_at < clock_timestamp() - p_lease
            OR (p_trust_locks AND w.session_lock
                AND (w.started_at > pg_postmaster_start_time()
                     OR clock_timestamp() > pg_postmaster_start_time() + interval '5 s')
                AND NOT EXISTS (
                SELECT 1 FROM pg_locks k WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 2
                  AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                  AND k.classid = p_lock_class::oid AND k.objid = (w.id % 2147483647)::oid)))
        ORDER BY w.id
    LOOP
        SELECT {schema}.end_worker(gone, 'gone') INTO touched;
        ended := ended || gone;
        queues := queues || touched;
    END LOOP;
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
