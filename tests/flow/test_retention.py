# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Pruning of finished runs, and versions side by side."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from forktex_core.flow import ExportedRun, Flow, RunFailed, UnknownWorkflowError
from forktex_core.flow.engine.pruning import Prune
from tests.waiting import eventually

DAY = timedelta(days=1)
END_OLD = (
    "UPDATE run SET status = 'failed', due_at = NULL, finished_at = now() - interval '20 days'"
    " WHERE workflow = 'b' AND finished_at IS NULL"
)


@pytest.fixture
async def kept(flow: Flow, serving, sql) -> AsyncIterator[dict[str, object]]:
    """Finished runs of two workflows, in each status, old and young; an open Flow that leads
    (worker 1, term 1) without a worker.
    """

    async def step(n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return n

    @flow.workflow(name="a")
    async def a(ctx, n: int) -> int:
        heard = await ctx.wait_signal("go", int)
        return await ctx.step(step, n + heard)

    @flow.workflow(name="b")
    async def b(ctx, n: int) -> int:
        return n

    names: dict[str, object] = {}
    async with serving(flow):
        for name, workflow, n in (("a1", "a", 1), ("a2", "a", 2), ("af", "a", -5), ("b1", "b", 1)):
            names[name] = await flow.start(workflow, n, metadata={"name": name})
            if workflow == "a":
                await flow.send_signal(names[name], "go", 0)
        for run_id in names.values():
            with contextlib.suppress(RunFailed):
                await flow.result(run_id, timeout=10)
    async with flow:
        await sql.execute(
            "UPDATE run SET finished_at = finished_at - interval '10 days' WHERE id = ANY ($1)",
            [names["a1"], names["af"], names["b1"]],
        )
        names["live"] = await flow.start("a", 3)
        await sql.execute("UPDATE leader SET worker_id = 1, term = 1")
        yield names


async def left(sql) -> set[str]:
    return {r[0] or "live" for r in await sql.fetch("SELECT metadata->>'name' FROM run")}


async def prune(flow: Flow, term: int = 1) -> None:
    await Prune(flow._open.retention, lambda: flow._exporter)._round(1, term)


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ({"older_than": 9 * DAY}, {"a1", "af", "b1"}),
        ({"older_than": 9 * DAY, "statuses": ["failed"]}, {"af"}),
        ({"older_than": 9 * DAY, "workflow": "a"}, {"a1", "af"}),
        ({"older_than": 9 * DAY, "workflow": "a", "statuses": ["succeeded"]}, {"a1"}),
        ({"older_than": 0}, {"a1", "a2", "af", "b1"}),
        ({"older_than": 11 * DAY}, set()),
    ],
)
async def test_what_a_rule_prunes(flow, kept, sql, rule, gone) -> None:
    """By age, status and workflow, with journals and signals; never what is unfinished."""
    before = await left(sql)
    await flow.retain("r", **rule)
    await prune(flow)
    assert await left(sql) == before - gone
    for table in ("journal", "signal"):
        assert (
            await sql.fetchval(
                f"SELECT count(*) FROM {table} WHERE run_id NOT IN (SELECT id FROM run)"
            )
            == 0
        )
    assert await sql.fetchval("SELECT count(*) FROM journal") > 0 or "a2" in gone


async def test_a_deposed_leader_prunes_nothing(flow, kept, sql) -> None:
    """Removal is fenced by the term."""
    await flow.retain("r", older_than=0)
    before = await left(sql)
    await sql.execute("UPDATE leader SET term = 2")
    await prune(flow, term=1)
    assert await left(sql) == before
    await prune(flow, term=2)
    assert await left(sql) == {"live"}


async def test_export_comes_first_and_at_least_once(flow, kept, sql) -> None:
    """The callback gets the runs whole; what it refuses is kept and handed over again; a rule that
    exports prunes nothing while there is no callback.
    """
    handed: list[list[ExportedRun]] = []
    await flow.retain("r", older_than=9 * DAY, export=True)
    await prune(flow)
    assert "a1" in await left(sql)

    @flow.on_prune
    async def export(runs: list[ExportedRun]) -> None:
        handed.append(runs)
        assert await sql.fetchval(
            "SELECT count(*) = $1 FROM run WHERE id = ANY ($2)", len(runs), [r.run_id for r in runs]
        )
        if len(handed) == 1:
            raise OSError("the archive is full")

    await prune(flow)
    assert "a1" in await left(sql)
    await prune(flow)
    assert await left(sql) == {"a2", "live"}
    assert [r.run_id for r in handed[0]] == [r.run_id for r in handed[1]]
    run = next(r for r in handed[1] if r.metadata["name"] == "a1")
    assert (run.status, run.input, run.output, run.workflow) == ("succeeded", 1, 1, "a")
    assert [(e["kind"], e["value"]) for e in run.journal] == [("signal", [1, "go", 0]), ("step", 1)]
    failed = next(r for r in handed[1] if r.metadata["name"] == "af")
    assert failed.error["type"].endswith("ValueError")


async def test_children_stay_as_long_as_their_parent_is_at_work(flow, kept, sql) -> None:
    """A finished child of an unfinished run is kept; it goes when the parent has ended."""
    await sql.execute(
        "UPDATE run SET parent_id = $1, parent_key = '1' WHERE id = $2", kept["live"], kept["a1"]
    )
    await flow.retain("r", older_than=0)
    await prune(flow)
    assert await left(sql) == {"a1", "live"}
    await sql.execute(
        "UPDATE run SET status = 'failed', due_at = NULL, finished_at = now() WHERE id = $1",
        kept["live"],
    )
    await prune(flow)
    assert await left(sql) == set()


async def test_a_run_that_is_retried_meanwhile_stays(flow, kept, sql) -> None:
    """What was set back to work after the leader looked is finished no more."""
    await flow.retain("r", older_than=9 * DAY, export=True, statuses=["failed"])

    @flow.on_prune
    async def export(runs: list[ExportedRun]) -> None:
        await flow.retry(kept["af"])

    await prune(flow)
    assert "af" in await left(sql)


async def test_batches_are_small(flow, kept, sql) -> None:
    """A thousand runs go in batches of two hundred, and long journals make batches smaller."""
    sizes: list[int] = []
    await flow.start_many("b", range(1000))
    await sql.execute(END_OLD)
    await flow.retain("r", older_than=15 * DAY, export=True)
    flow.on_prune(lambda runs: sizes.append(len(runs)))
    await prune(flow)
    assert sizes == [200] * 5
    await flow.start_many("b", range(4))
    await sql.execute(END_OLD)
    await sql.execute(
        "INSERT INTO journal (run_id, key, seq, kind, name, failed, claim, attempt, worker_id,"
        " started_at, at)"
        " SELECT r.id, n::text, n, 'step', 's', false, 1, 1, 1, now(), now()"
        " FROM run r, generate_series(1, 3000) n WHERE r.workflow = 'b' AND r.status = 'failed'"
    )
    sizes.clear()
    await prune(flow)
    assert sizes == [1, 1, 1, 1]


async def test_the_leader_prunes(flow: Flow, serving, sql) -> None:
    """A worker in office applies the rules by itself; rules are listed, changed and dropped."""

    @flow.workflow(name="brief")
    async def brief(ctx) -> None: ...

    async with flow:
        await flow.retain("r", older_than=60, statuses=["failed"])
        await flow.retain("r", older_than=0)
        assert [
            (r.name, r.older_than, len(r.statuses), r.workflow) for r in await flow.retention()
        ] == [("r", timedelta(), 3, None)]
        await flow.start("brief")
        await sql.execute("UPDATE run SET status = 'failed', due_at = NULL, finished_at = now()")
        await sql.execute(
            "INSERT INTO definition (workflow, version, lane, kind)"
            " VALUES ('brief', 1, 'brief@1', 'code')"
        )
        task = asyncio.create_task(flow.run_worker())
        await eventually(lambda: sql.fetchval("SELECT count(*) = 0 FROM run"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await flow.drop_retention("r")
        assert not await flow.drop_retention("r")
        with pytest.raises(ValueError, match="statuses"):
            await flow.retain("r", older_than=0, statuses=["running"])


# Versions side by side


def serving_version(postgres, schema: str, version: int) -> Flow:
    flow = Flow(postgres.url, schema=schema)

    @flow.workflow(name="grown", version=version)
    async def grown(ctx) -> str:
        await ctx.wait_signal("go")
        return f"version {version}"

    return flow


async def test_runs_stay_on_their_version(postgres, schema, serving, sql) -> None:
    """Workers of two versions at once: each claims what it registered, runs end on the version that
    they began on, a start takes the newest, and asking for one that nobody has is an error.
    """
    old, new = (serving_version(postgres, schema, v) for v in (1, 2))
    async with serving(old):
        first = await old.start("grown")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        async with serving(new):
            second = await new.start("grown")
            chosen = await new.start("grown", version=1)
            for run_id in (first, second, chosen):
                await new.send_signal(run_id, "go")
            results = [await new.result(i, timeout=10) for i in (first, second, chosen)]
            with pytest.raises(UnknownWorkflowError, match="version 3"):
                await new.start("grown", version=3)
    assert results == ["version 1", "version 2", "version 1"]


async def test_runs_that_no_worker_serves_are_found(postgres, schema, serving, sql) -> None:
    """When the last worker of a version is gone, its runs stand in unserved(), by queue as well;
    they wait untouched, and go on when such a worker comes back.
    """
    old, new = (serving_version(postgres, schema, v) for v in (1, 2))
    async with serving(old):
        first = await old.start("grown")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        assert await old.unserved() == []
    async with serving(new):
        second = await new.start("grown")
        elsewhere = await new.start("grown", queue="elsewhere")
        await new.send_signal(first, "go")
        await eventually(
            lambda: sql.fetchval("SELECT status = 'waiting' FROM run WHERE id = $1", second)
        )
        found = [
            (u.workflow, u.version, u.queue, u.runs, u.first_runs) for u in await new.unserved()
        ]
        assert found == [
            ("grown", 1, "default", 1, [first]),
            ("grown", 2, "elsewhere", 1, [elsewhere]),
        ]
        assert await sql.fetchval("SELECT claim FROM run WHERE id = $1", first) == 1
    again = serving_version(postgres, schema, 1)
    async with serving(again):
        assert await again.result(first, timeout=10) == "version 1"
