-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

CREATE TABLE {schema}.retention (
    name       text PRIMARY KEY,
    older_than interval NOT NULL CHECK (older_than >= interval '0'),
    statuses   text[] NOT NULL CHECK (statuses <@ '{succeeded,failed,cancelled}'),
    workflow   text,
    export     boolean NOT NULL
);

-- What a rule has outlived, oldest first: one index probe for each workflow, status and queue. A run that belongs to an unfinished
-- parent stays, for the parent may still be set back. A batch ends where its journals would get large.
CREATE FUNCTION {schema}.outlived_runs(p_rule text, p_most integer, p_most_entries integer) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    rule {schema}.retention;
BEGIN
    SELECT * INTO rule FROM {schema}.retention x WHERE x.name = p_rule;
    RETURN ARRAY(
        SELECT b.id FROM (
            SELECT o.id, o.rank, sum(e.n) OVER (ORDER BY o.rank) AS entries FROM (
                SELECT c.id, row_number() OVER (ORDER BY c.finished_at, c.id) AS rank FROM (
                    SELECT coalesce(rule.workflow, d.workflow) AS workflow FROM {schema}.definition d GROUP BY 1) w
                CROSS JOIN unnest(rule.statuses) s(status)
                CROSS JOIN LATERAL (  -- the queues that there are: a probe for each
                    WITH RECURSIVE there AS (
                        SELECT (SELECT min(r.queue) FROM {schema}.run r WHERE r.workflow = w.workflow AND r.status = s.status
                                  AND r.finished_at IS NOT NULL) AS queue
                        UNION ALL
                        SELECT (SELECT min(r.queue) FROM {schema}.run r WHERE r.workflow = w.workflow AND r.status = s.status
                                  AND r.finished_at IS NOT NULL AND r.queue > t.queue)
                        FROM there t WHERE t.queue IS NOT NULL
                    ) SELECT t.queue FROM there t WHERE t.queue IS NOT NULL) q
                CROSS JOIN LATERAL (
                    SELECT r.id, r.finished_at FROM {schema}.run r
                    WHERE r.workflow = w.workflow AND r.status = s.status AND r.queue = q.queue
                      AND r.finished_at <= clock_timestamp() - rule.older_than AND NOT EXISTS (
                          SELECT 1 FROM {schema}.run p WHERE p.id = r.parent_id AND p.finished_at IS NULL)
                    ORDER BY r.finished_at LIMIT p_most) c
                ORDER BY rank LIMIT p_most) o
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM (
                SELECT 1 FROM {schema}.journal j WHERE j.run_id = o.id LIMIT p_most_entries) x) e) b
        WHERE b.rank = 1 OR b.entries <= p_most_entries);
END $$;

-- Removes finished runs and all that is theirs: every table of the schema that has a run_id. Fenced by the leader's term. A
-- run that was set back to work since it was looked up is finished no more, and stays.
CREATE FUNCTION {schema}.prune_runs(p_worker bigint, p_term bigint, p_runs uuid[]) RETURNS integer
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_gone uuid[];
    v_table regclass;
BEGIN
    PERFORM 1 FROM {schema}.leader l WHERE l.term = p_term AND l.worker_id = p_worker FOR SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH locked AS MATERIALIZED (
        SELECT r.id FROM {schema}.run r WHERE r.id = ANY (p_runs) AND r.finished_at IS NOT NULL ORDER BY r.id
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM {schema}.run r USING locked l WHERE r.id = l.id RETURNING r.id
    ) SELECT coalesce(array_agg(g.id), '{}') INTO v_gone FROM gone g;
    FOR v_table IN
        SELECT c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'run_id'
        WHERE c.relnamespace = (SELECT n.relnamespace FROM pg_class n WHERE n.oid = '{schema}.run'::regclass) AND c.relkind IN ('r', 'p')
    LOOP
        EXECUTE format('DELETE FROM %s WHERE run_id = ANY ($1)', v_table) USING v_gone;
    END LOOP;
    RETURN cardinality(v_gone);
END $$;
