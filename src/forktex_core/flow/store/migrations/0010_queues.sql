-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- A queue has a row when it is limited, paused, or used with keys. Claims from such a queue take turns: each locks the
-- row, so that what it counts stays true until it commits. Queues without a row know no such lock.
CREATE TABLE {schema}.queue (
    name        text PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false,
    concurrency integer CHECK (concurrency > 0),
    per_key     integer CHECK (per_key > 0),
    rate        integer CHECK (rate BETWEEN 1 AND 1000),
    rate_period interval CHECK (rate_period > interval '0'),
    starts      timestamptz[] NOT NULL DEFAULT '{}',
    cursor      text COLLATE "C" NOT NULL DEFAULT '',
    CHECK ((rate IS NULL) = (rate_period IS NULL))
) WITH (fillfactor = 50);

-- Runs with a key. What is due is 'pending' and stands in run_fair by key, so that the next key is one probe away whatever
-- the backlog of the one before; what is due later is 'waiting' and stands in run_timer by time.
CREATE INDEX run_fair ON {schema}.run (queue, lane, key, least(claim, 1) DESC, priority DESC, due_at)
WHERE key IS NOT NULL AND status = 'pending';
CREATE INDEX run_timer ON {schema}.run (queue, lane, due_at)
WHERE key IS NOT NULL AND status = 'waiting' AND due_at IS NOT NULL;
CREATE INDEX run_limited ON {schema}.run (queue, key) WHERE limited AND worker_id IS NOT NULL;

-- The keys that have something due, from the one after p_after on, around the ring, p_most at most.
CREATE FUNCTION {schema}.keys_in_turn(p_queue text, p_lanes text[], p_after text, p_most integer) RETURNS text[]
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_keys text[] := '{}';
    v_from text COLLATE "C" := p_after;
    v_key text COLLATE "C";
    v_head text COLLATE "C";
    v_lane text;
    v_wrapped boolean := false;
BEGIN
    WHILE cardinality(v_keys) < p_most LOOP
        v_key := NULL;
        FOREACH v_lane IN ARRAY p_lanes LOOP
            SELECT r.key INTO v_head FROM {schema}.run r WHERE r.queue = p_queue AND r.lane = v_lane AND r.key > v_from
              AND r.key IS NOT NULL AND r.status = 'pending' ORDER BY r.queue, r.lane, r.key LIMIT 1;
            v_key := least(v_key, v_head);
        END LOOP;
        EXIT WHEN v_wrapped AND (v_key IS NULL OR v_key > p_after);
        IF v_key IS NULL THEN
            v_wrapped := true;
            v_from := '';
            EXIT WHEN p_after = '';
        ELSE
            v_keys := v_keys || v_key;
            v_from := v_key;
        END IF;
    END LOOP;
    RETURN v_keys;
END $$;

-- Claims from a queue with a row, up to p_slots runs. Keys take turns, beginning after the one that had the last turn; in
-- each turn every key gets an equal share of what is free. Runs without a key take part as one more key. A rate counts
-- first claims; what goes on after a wait passes. next_at: when it pays to ask again, if a limit held something back.
CREATE FUNCTION {schema}.claim_from_queue(p_worker bigint, p_queue text, p_lanes text[], p_slots integer, p_tried uuid[],
                                          OUT got uuid[], OUT next_at timestamptz)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    q record;
    v_now timestamptz;
    v_free integer := p_slots;
    v_tokens integer := 2147483647;
    v_starts timestamptz[];
    v_keys text[];
    v_rooms integer[];
    v_quota integer;
    v_least integer;
    v_most integer;
    v_tried uuid[] := p_tried;
    v_heads uuid[];
    v_picked uuid[];
    v_got uuid[];
    v_fresh integer;
    v_last text COLLATE "C";
    v_cursor text COLLATE "C";
BEGIN
    got := '{}';
    SELECT * INTO q FROM {schema}.queue x WHERE x.name = p_queue FOR NO KEY UPDATE;
    IF NOT FOUND OR q.paused THEN
        RETURN;
    END IF;
    v_now := clock_timestamp();
    v_cursor := q.cursor;
    v_starts := q.starts;
    IF q.concurrency IS NOT NULL THEN
        v_free := least(v_free, q.concurrency - (SELECT count(*)::integer FROM {schema}.run r
                        WHERE r.queue = p_queue AND r.limited AND r.worker_id IS NOT NULL));
    END IF;
    IF q.rate IS NOT NULL THEN
        v_starts := ARRAY(SELECT s FROM unnest(q.starts) s WHERE s > v_now - q.rate_period ORDER BY s);
        v_tokens := q.rate - cardinality(v_starts);
    END IF;
    -- What has waited long enough is due now, ahead of what its key has not begun yet.
    IF v_free > 0 THEN
        UPDATE {schema}.run r SET status = 'pending',
               waiting_for = NULL
        FROM (SELECT x.id FROM unnest(p_lanes) l CROSS JOIN LATERAL (
                  SELECT r.id FROM {schema}.run r WHERE r.queue = p_queue AND r.lane = l AND r.key IS NOT NULL
                    AND r.status = 'waiting' AND r.due_at <= v_now ORDER BY r.due_at LIMIT 500
                  FOR NO KEY UPDATE SKIP LOCKED) x) ripe
        WHERE r.id = ripe.id;
    END IF;
    v_most := least(2 * greatest(v_free, 0) + 50, 500);
    FOR round IN 1..6 LOOP
        EXIT WHEN v_free <= 0;
        v_keys := {schema}.keys_in_turn(p_queue, p_lanes, v_cursor, v_most);
        v_quota := ceil(v_free::numeric / (cardinality(v_keys) + 1));
        v_rooms := ARRAY(SELECT CASE WHEN q.per_key IS NULL THEN v_quota ELSE least(v_quota, q.per_key - (
            SELECT count(*)::integer FROM {schema}.run x WHERE x.queue = p_queue AND x.key = k.key AND x.limited
               AND x.worker_id IS NOT NULL)) END FROM unnest(v_keys) WITH ORDINALITY AS k(key, turn) ORDER BY k.turn);
        v_least := CASE WHEN v_tokens > 0 THEN 0 ELSE 1 END;
        v_heads := {schema}.due_runs(ARRAY[p_queue], p_lanes, v_quota, v_tried);
        WITH keyed AS (
            SELECT c.id, k.key, k.turn, c.rank, c.fresh FROM unnest(v_keys, v_rooms) WITH ORDINALITY AS k(key, room, turn)
            CROSS JOIN LATERAL (
                SELECT d.id, d.fresh, row_number() OVER (ORDER BY d.fresh, d.priority DESC, d.due_at, d.id) AS rank
                FROM unnest(p_lanes) l CROSS JOIN LATERAL (
                    SELECT r.id, r.priority, r.due_at, r.claim = 0 AS fresh FROM {schema}.run r
                    WHERE r.queue = p_queue AND r.lane = l AND r.key = k.key AND r.key IS NOT NULL AND r.status = 'pending'
                      AND least(r.claim, 1) >= v_least AND r.id <> ALL (v_tried)
                    ORDER BY least(r.claim, 1) DESC, r.priority DESC, r.due_at LIMIT v_quota) d) c
            WHERE c.rank <= k.room
        ), candidate AS (
            SELECT k.id, k.key, k.turn, k.rank, k.fresh FROM keyed k
            UNION ALL
            SELECT r.id, NULL, 0, h.rank, r.claim = 0 FROM unnest(v_heads) WITH ORDINALITY AS h(id, rank)
            JOIN {schema}.run r ON r.id = h.id
        ), allowed AS (
            SELECT a.id, a.key, a.turn FROM (
                SELECT c.*, count(*) FILTER (WHERE c.fresh) OVER (ORDER BY c.rank, c.turn) AS begun FROM candidate c) a
            WHERE NOT a.fresh OR a.begun <= v_tokens ORDER BY a.rank, a.turn LIMIT v_free
        )
        SELECT coalesce(array_agg(a.id), '{}'), (array_agg(a.key ORDER BY a.turn DESC))[1] INTO v_picked, v_last
        FROM allowed a;
        IF cardinality(v_picked) = 0 THEN
            -- Keys at their limit hid what is behind them: go on from there in a while.
            IF cardinality(v_keys) >= v_most THEN
                v_cursor := v_keys[cardinality(v_keys)];
                next_at := v_now + interval '50 ms';
            END IF;
            EXIT;
        END IF;
        WITH locked AS MATERIALIZED (
            SELECT r.id, r.claim = 0 AS fresh FROM {schema}.run r
            WHERE r.id = ANY (v_picked) AND r.status IN ('pending', 'waiting') AND r.due_at <= v_now
            ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
        ), changed AS (
            UPDATE {schema}.run r SET status = 'running', worker_id = p_worker, claim = r.claim + 1, due_at = NULL,
                   waiting_for = NULL, claimed_at = clock_timestamp(), limited = true,
                   started_at = coalesce(r.started_at, clock_timestamp())
            FROM locked l WHERE r.id = l.id RETURNING r.id, l.fresh
        ) SELECT coalesce(array_agg(c.id), '{}'), count(*) FILTER (WHERE c.fresh)::integer
          INTO v_got, v_fresh FROM changed c;
        got := got || v_got;
        v_tried := v_tried || v_picked;
        v_free := v_free - cardinality(v_got);
        v_cursor := coalesce(v_last, v_cursor);
        IF q.rate IS NOT NULL THEN
            v_starts := v_starts || array_fill(clock_timestamp(), ARRAY[v_fresh]);
            v_tokens := v_tokens - v_fresh;
        END IF;
    END LOOP;
    IF q.rate IS NOT NULL AND v_tokens <= 0 THEN
        next_at := least(next_at, v_starts[1] + q.rate_period);
    END IF;
    IF v_cursor <> q.cursor OR cardinality(got) > 0 AND q.rate IS NOT NULL THEN
        UPDATE {schema}.queue x SET cursor = v_cursor, starts = v_starts WHERE x.name = p_queue;
    END IF;
END $$;
