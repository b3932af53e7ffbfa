# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What listings cost on 100,000 runs: rows that Postgres reads, by its own account; never a time.

A time range is bounded in its own order only: docs/operate.md says so.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from forktex_core.flow import Flow
from forktex_core.flow.inspect import statement
from forktex_core.flow.inspect.filter import ALL
from forktex_core.flow.inspect.statement import Question

RUNS, PAGE = 100_000, 50
# A page's rows from as many places, the probes that find the places, and what is executed.
BOUND = PAGE * PAGE + 3000
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PARENT = UUID(int=0xF000)
TIMES = ("created", "finished")

# Thirty workflows in three queues; one run in a thousand has failed, one workflow has only ten
# runs, all old; few are unfinished. The newest 40 are being executed.
FILL = f"""
INSERT INTO run (id, workflow, version, lane, queue, priority, status, due_at, worker_id, limited,
                 error, metadata, parent_id, parent_key, created_at, started_at, finished_at)
SELECT uuid_in(md5(n::text)::cstring), x.workflow, 1, x.workflow || '@1', 'q' || n % 3, 0, x.status,
       CASE x.status WHEN 'pending' THEN x.at END,
       CASE x.status WHEN 'running' THEN 1 END, false,
       CASE x.status WHEN 'failed' THEN '{{"type": "E", "message": "out of luck"}}'::json END,
       CASE WHEN n % 2 = 0 THEN jsonb_build_object('order', n, 'big', n % 2) ELSE '{{}}' END,
       CASE WHEN n % 5000 = 7 THEN '{PARENT}'::uuid END, CASE WHEN n % 5000 = 7 THEN n::text END,
       x.at, x.at, CASE WHEN x.status IN ('failed', 'succeeded') THEN x.at + interval '1 s' END
FROM generate_series(1, {RUNS}) n CROSS JOIN LATERAL (
    SELECT CASE WHEN n <= 10 THEN 'rare' ELSE 'w' || n % 30 END AS workflow,
           CASE WHEN n > {RUNS} - 40 THEN 'running' WHEN n % 1000 = 1 THEN 'failed'
                WHEN n % 2000 = 2 THEN 'waiting' WHEN n % 3000 = 3 THEN 'pending'
                ELSE 'succeeded' END AS status,
           timestamptz '2026-01-01' + n * interval '1 s' AS at) x
"""

CASES: dict[str, dict[str, Any]] = {
    "everything": {},
    "a status that most have": {"status": "succeeded"},
    "a status that few have": {"status": "failed"},
    "what is executed": {"status": "running"},
    "what is not finished": {"status": ["pending", "running", "waiting", "paused"]},
    "a workflow": {"workflow": "w7"},
    "a rare workflow": {"workflow": "rare"},
    "a workflow that there is not": {"workflow": "none"},
    "a queue": {"queue": "q1"},
    "workflow, queue and status": {"workflow": "w7", "queue": "q1", "status": "failed"},
    "rare metadata": {"metadata": {"order": 4242}},
    "a parent": {"parent": PARENT},
    "a worker": {"worker": 1},
    "a text in the error": {"error_contains": "LUCK"},
    "created since": {"created_since": NOON},
    "created until": {"created_until": NOON},
    "created long ago, of a workflow": {
        "workflow": "w7", "created_until": NOON - timedelta(hours=11),
    },
    "finished within an hour": {
        "finished_since": NOON, "finished_until": NOON + timedelta(hours=1),
    },
}  # fmt: skip


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan that reads a table."""
    if "Relation Name" in plan:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def rows_read(node: dict[str, Any]) -> int:
    """The rows that a node of a plan read, those that it threw away included."""
    away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return round((node["Actual Rows"] + away) * node["Actual Loops"])


async def plan(flow: Flow, made: statement.Statement) -> list[dict[str, Any]]:
    """The nodes that read tables, of a statement as flow.runs has it executed."""
    store = flow._open.inspection
    rows = await store.look(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {made.sql}",
        made.parameters,
        ordered=made.ordered,
    )
    return list(scans(json.loads(rows[0][0])[0]["Plan"]))


async def test_each_listing_reads_a_bounded_part_of_100_000_runs(flow: Flow, sql, schema) -> None:
    """First pages and later ones, in both orders and directions, scan no table and read few rows;
    so do single runs.
    """
    async with flow:
        await sql.execute("SET synchronous_commit = off")
        await sql.execute(FILL)
        await sql.execute("ANALYZE run")
        later = (datetime(2026, 1, 1, 3, tzinfo=UTC), UUID(int=0))
        found: dict[str, int] = {}
        for name, conditions in CASES.items():
            for order in statement.ORDERS:
                if not any(f"{time}_" in str(conditions) and time not in order for time in TIMES):
                    for after in (None, later) if order[0] == "-" else (None,):
                        made = statement.listing(
                            schema, Question(ALL.narrowed(conditions)), order, PAGE + 1, after
                        )
                        nodes = await plan(flow, made)
                        what = f"{name}, {order}, {'later' if after else 'first'} page"
                        assert "Seq Scan" not in {n["Node Type"] for n in nodes}, what
                        found[what] = sum(map(rows_read, nodes))
        nodes = await plan(flow, statement.one(schema, Question(ALL), UUID(int=1)))
        assert [node["Node Type"] for node in nodes] == ["Index Scan"]
    worst = {what: rows for what, rows in found.items() if rows > BOUND}
    assert worst == {}
    assert len(found) > 70


async def test_retention_finds_the_outlived_of_every_queue(flow: Flow, sql, schema) -> None:
    """Its index is ordered by queue, too: what is pruned is what is older, in whatever queue."""
    async with flow:
        await flow.retain("old", older_than=60, statuses=["succeeded"])
        await sql.execute("INSERT INTO definition VALUES ('w', 1, 'w@1', 'code')")
        await sql.execute(
            "INSERT INTO run (id, workflow, version, lane, queue, priority, status, finished_at)"
            " SELECT gen_random_uuid(), 'w', 1, 'w@1', 'q' || n % 3, 0, 'succeeded',"
            " now() - n * interval '20 s' FROM generate_series(1, 12) n"
        )
        found = await flow._open.retention.outlived_runs("old", 100, 100)
        wanted = await sql.fetch(
            "SELECT id FROM run WHERE finished_at <= now() - interval '60 s' ORDER BY finished_at"
        )
    assert found == [row["id"] for row in wanted]
    assert len(found) == 10
