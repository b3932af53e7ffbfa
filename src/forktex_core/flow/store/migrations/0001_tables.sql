-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- One row per life of a worker process. The row is the fence: a write of the worker locks it FOR KEY SHARE and reads
-- ended_at under that lock; whoever hands its runs on locks it FOR UPDATE and sets ended_at.
CREATE TABLE {schema}.worker (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,
    host         text NOT NULL,
    pid          integer NOT NULL,
    queues       text[] NOT NULL,
    lanes        text[] NOT NULL,
    slots        integer NOT NULL,
    session_lock boolean NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked      uuid[] NOT NULL DEFAULT '{}',
    ended_at     timestamptz,
    end_reason   text,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) WITH (fillfactor = 50);
CREATE INDEX worker_living ON {schema}.worker (id) WHERE ended_at IS NULL;

-- Exactly one row: the authority on who leads. The advisory lock is only the fast way to learn that a leader is gone.
CREATE TABLE {schema}.leader (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    term       bigint NOT NULL DEFAULT 0,
    worker_id  bigint,
    elected_at timestamptz,
    seen_at    timestamptz,
    locked     boolean NOT NULL DEFAULT false  -- the one in office holds the advisory lock: its absence means death
) WITH (fillfactor = 50);
INSERT INTO {schema}.leader DEFAULT VALUES;

CREATE TABLE {schema}.definition (
    workflow      text NOT NULL,
    version       integer NOT NULL,
    lane          text NOT NULL,
    kind          text NOT NULL,
    body          text,  -- the hash of what a worker served last under this version
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workflow, version)
);

CREATE TABLE {schema}.run (
    id              uuid PRIMARY KEY,
    workflow        text NOT NULL,
    version         integer NOT NULL,
    lane            text NOT NULL,
    queue           text NOT NULL,
    priority        smallint NOT NULL,
    status          text NOT NULL CHECK (status IN
                    ('pending', 'running', 'waiting', 'paused', 'succeeded', 'failed', 'cancelled')),
    due_at          timestamptz,
    worker_id       bigint,
    warm_by         bigint,                              -- the worker that parked it last, and may have it in memory
    claim           integer NOT NULL DEFAULT 0,
    signal_seq      bigint NOT NULL DEFAULT 0,
    input           json,
    output          json,
    error           json,
    waiting_for     text,
    metadata        jsonb NOT NULL DEFAULT '{}',
    idempotency_key text,
    parent_id       uuid,
    parent_key      text,
    parent_close    text CHECK (parent_close IN ('terminate', 'cancel', 'abandon')),
    generation      integer NOT NULL DEFAULT 0,
    key             text COLLATE "C" CHECK (key <> ''),  -- whose share of the queue it takes: 0010_queues.sql
    limited         boolean NOT NULL DEFAULT false,      -- its claim counts for the limits of its queue
    deduplication_key text,
    schedule        text,
    origin          uuid,                                -- a fork draws the random numbers of the run it came from
    started_by      uuid,                                -- the run whose step started it, or that it is a fork of
    timeout         interval,
    due_when_resumed timestamptz,
    paused_at       timestamptz,
    paused_by       text,                                -- who paused it last, as the caller of pause() said
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    claimed_at      timestamptz,
    deadline_at     timestamptz,
    finished_at     timestamptz,
    CONSTRAINT run_claimed_when_running CHECK ((status = 'running') = (worker_id IS NOT NULL)),
    CONSTRAINT run_due_when_claimable CHECK (due_at IS NULL OR status IN ('pending', 'waiting')),
    CONSTRAINT run_pending_is_due CHECK (status <> 'pending' OR due_at IS NOT NULL),
    CONSTRAINT run_finished_once CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled'))),
    CONSTRAINT run_child_has_key CHECK ((parent_id IS NULL) = (parent_key IS NULL))
) WITH (fillfactor = 80);
-- What can be claimed, now or later: ordered as workers ask for it. Runs with a key have indexes of their own (0010).
CREATE INDEX run_due ON {schema}.run (queue, lane, priority DESC, due_at) WHERE due_at IS NOT NULL AND key IS NULL;
CREATE INDEX run_claimed ON {schema}.run (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX run_deadline ON {schema}.run (deadline_at) WHERE deadline_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX run_parent ON {schema}.run (parent_id) WHERE parent_id IS NOT NULL;
CREATE UNIQUE INDEX run_idempotency ON {schema}.run (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX run_deduplication ON {schema}.run (queue, deduplication_key)
WHERE deduplication_key IS NOT NULL AND finished_at IS NULL;
CREATE INDEX run_finished ON {schema}.run (workflow, status, queue, finished_at) WHERE finished_at IS NOT NULL;

-- The second wall behind transitions.py: the same table of legal changes, which no UPDATE gets past.
CREATE FUNCTION {schema}.refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'run % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER run_transition BEFORE UPDATE OF status ON {schema}.run FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NOT (
       (OLD.status = 'pending' AND NEW.status IN ('running', 'paused', 'failed', 'cancelled'))
    OR (OLD.status = 'running' AND NEW.status IN ('pending', 'waiting', 'paused', 'succeeded', 'failed', 'cancelled'))
    OR (OLD.status = 'waiting' AND NEW.status IN ('pending', 'running', 'paused', 'failed', 'cancelled'))
    OR (OLD.status = 'paused' AND NEW.status IN ('pending', 'waiting', 'failed', 'cancelled'))
    OR (OLD.status IN ('failed', 'cancelled') AND NEW.status = 'pending')))
EXECUTE FUNCTION {schema}.refuse_transition();

-- The append-only journal. `value` is json, not jsonb: what replay returns must be the very text that was recorded
-- (jsonb reorders keys). `seq` is the order in which a run's entries were made, which replay delivers them in.
CREATE TABLE {schema}.journal (
    run_id     uuid NOT NULL,
    key        text COLLATE "C" NOT NULL,
    seq        integer NOT NULL,
    kind       text NOT NULL,
    name       text NOT NULL,
    failed     boolean NOT NULL,
    value      json,
    claim      integer NOT NULL,
    attempt    integer NOT NULL,
    worker_id  bigint NOT NULL,
    started_at timestamptz NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (run_id, key)
);

-- A new entry on its way in: what a flush sends, one text for each.
CREATE TYPE {schema}.journal_line AS (
    run_id uuid, key text, seq integer, kind text, name text, failed boolean, value json, claim integer, attempt integer,
    started_at float8, at float8
);

CREATE TABLE {schema}.signal (
    run_id  uuid NOT NULL,
    no      bigint NOT NULL,
    name    text NOT NULL,
    payload json,
    key     text,
    taken   boolean NOT NULL DEFAULT false,
    taken_seq integer,  -- the journal entry that took it, so that a run that is set back gets it again
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, no)
);
CREATE UNIQUE INDEX signal_key ON {schema}.signal (run_id, key) WHERE key IS NOT NULL;
