# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Timeouts of runs, and what a worker costs while there is nothing to do."""

import asyncio
import time
from datetime import timedelta

import pytest

from forktex_core.flow import Flow, FlowContext, RunTimeout
from forktex_core.flow.engine.leader import Leader
from forktex_core.flow.outgoing import PROGRESS
from forktex_core.flow.store.effects import NewValue
from tests.waiting import eventually


def register(flow: Flow) -> None:
    @flow.workflow(name="waits")
    async def waits(ctx) -> str:
        return await ctx.wait_signal("go")

    @flow.workflow(name="quick")
    async def quick(ctx) -> str:
        return "done"


async def test_timeout_of_a_run_that_nobody_began(flow: Flow, serving, sql) -> None:
    """It ends as failed with RunTimeout, without a worker that serves it; its caller is told."""
    register(flow)
    async with serving(flow):
        run_id = await flow.start("waits", queue="nobody", timeout=0.2)
        with pytest.raises(RunTimeout, match=r"within its timeout of 0\.2 s"):
            await flow.result(run_id, timeout=10)
        with pytest.raises(TimeoutError):
            await flow.result(run_id, timeout=10)
    row = await sql.fetchrow("SELECT status, deadline_at, due_at FROM run")
    assert tuple(row) == ("failed", None, None)


async def test_timeout_of_a_run_at_work_is_a_signal_of_the_engine(flow, serving, sql) -> None:
    """A run that has begun is asked to end, once, by the engine's signal; a retry forgets it."""
    register(flow)
    async with serving(flow):
        run_id = await flow.start("waits", timeout=0.3)
        await eventually(lambda: sql.fetchval("SELECT started_at IS NOT NULL FROM run"))
        with pytest.raises(RunTimeout, match=r"within its timeout of 0\.3 s"):
            await flow.result(run_id, timeout=10)
        assert await sql.fetchval("SELECT count(*) FROM signal") == 1
        await sql.execute("UPDATE run SET timeout = interval '1 hour'")
        await flow.retry(run_id)
        await flow.send_signal(run_id, "go", "now")
        assert await flow.result(run_id, timeout=10) == "now"
    assert await sql.fetchval("SELECT status FROM run") == "succeeded"


async def test_timeout_counts_from_when_a_run_is_due(flow: Flow, serving, sql) -> None:
    """A delay is no part of it, and a run that ends in time is not touched."""
    register(flow)
    async with serving(flow):
        run_id = await flow.start("quick", delay=0.4, timeout=30)
        assert await flow.result(run_id, timeout=10) == "done"
        assert (
            29
            < await sql.fetchval(
                "SELECT extract(epoch FROM deadline_at - created_at) - 0.4 FROM run"
            )
            < 31
        )
        with pytest.raises(ValueError, match="more than 0"):
            await flow.start("quick", timeout=0)


async def test_a_retry_has_the_whole_timeout_again(flow: Flow, serving, sql) -> None:
    """A timed-out run that is retried is not timed out at once."""
    register(flow)
    async with serving(flow):
        run_id = await flow.start("waits", queue="nobody", timeout=0.2)
        with pytest.raises(RunTimeout):
            await flow.result(run_id, timeout=10)
        await sql.execute("UPDATE run SET timeout = interval '1 hour', queue = 'default'")
        await flow.retry(run_id)
        left = "SELECT extract(epoch FROM deadline_at - clock_timestamp()) FROM run"
        assert await sql.fetchval(left) > 3000
        await flow.send_signal(run_id, "go", "in time")
        assert await flow.result(run_id, timeout=10) == "in time"


class Counting:
    """Counts the statements of a worker's connections, wake-ups apart."""

    def __init__(self, flow: Flow) -> None:
        self.statements: list[str] = []
        worker = flow._workers[0]
        for place in (*worker._links.values(), flow._open.pool):
            self.watch(place)
        for queries in (
            worker._pool_store,
            *self.stores(worker._leader),
            worker._pulse._store,
            worker._claim_store,
        ):
            queries._run = queries._made_of[0].fetch

    def stores(self, leader: Leader) -> list[object]:
        return [leader._store, leader._fire._store, leader._prune._store]

    def watch(self, place: object) -> None:
        inner = place.fetch

        async def counted(sql: str, *args: object) -> list:
            if "pg_notify" not in sql:
                self.statements.append(sql)
            return await inner(sql, *args)

        place.fetch = counted


async def counted(flow: Flow, sql, *, lead: bool) -> tuple[list[str], float]:
    """Statements of a worker that has nothing to do, and the seconds in which they came."""
    task = asyncio.create_task(flow.run_worker(lead=lead))
    await eventually(lambda: flow._workers and flow._workers[0].ready.is_set())
    await eventually(lambda: flow._workers[0].is_leader == lead)
    counting = Counting(flow)
    await eventually(lambda: sum("tick" in s for s in counting.statements) >= 2)
    counting.statements.clear()
    began = time.monotonic()
    await eventually(lambda: sum("tick" in s for s in counting.statements) >= 4, timeout=20)
    seen = list(counting.statements)
    seconds = time.monotonic() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return seen, seconds


@pytest.mark.parametrize(("lead", "most"), [(False, 1), (True, 1)])
async def test_an_idle_worker_asks_little(flow: Flow, sql, lead: bool, most: int) -> None:
    """At most one statement a second, also from one that leads; timers in the far future add none,
    nor do schedules, rules of retention and queues with limits.
    """
    register(flow)
    async with flow:
        await flow.start_many("quick", [None] * 100, delay=3600)
        await flow.start_many("quick", [None] * 100, delay=3600, key="k")
        await flow.queue("default", concurrency=5, per_key=2)
        await flow.schedule("s", "quick", cron="0 0 1 1 *")
        await flow.retain("r", older_than=timedelta(days=1))
        statements, seconds = await counted(flow, sql, lead=lead)
    assert len(statements) <= most * seconds + most, (statements, seconds)


async def test_leases_heartbeats_and_progress_are_hot(flow: Flow, serving, sql) -> None:
    """They touch no indexed column, so no index grows with them: every update of the lives, of the
    leader's row and of what runs show is a HOT one.
    """
    register(flow)

    @flow.workflow(name="shows")
    async def shows(ctx: FlowContext, times: int) -> None:
        for number in range(times):
            ctx.progress(number, times)
            await ctx.publish("number", number)

    async with serving(flow):
        await flow.run("shows", 40, timeout=20)
        progress = NewValue(await sql.fetchval("SELECT id FROM run"), PROGRESS, '{"done":1}', 1)
        for _ in range(20):
            await flow._workers[0]._journal._show([progress])
        await eventually(lambda: sql.fetchval("SELECT worker_id IS NOT NULL FROM leader"))
        worker = flow._workers[0]
        for _ in range(30):
            await worker._tick()
        seen = await sql.fetchval("SELECT seen_at FROM leader")
        assert seen > await sql.fetchval("SELECT elected_at FROM leader")
    for table in ("worker", "leader", "published"):

        async def updates(table: str = table) -> bool:
            await sql.execute("SELECT pg_stat_clear_snapshot()")
            row = await sql.fetchrow(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE relid = $1::regclass",
                table,
            )
            assert row["n_tup_upd"] - row["n_tup_hot_upd"] <= 1, dict(row)  # the end of the life
            return row["n_tup_upd"] >= 20

        await eventually(updates)
