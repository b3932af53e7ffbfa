# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Clocks that are wrong, or jump: the worker's, and the server's.

The server's clock is moved for real statements: its role's search path puts a clock of ours before
the built-in one, which every unqualified ``clock_timestamp()`` then means.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from forktex_core.flow import Flow, FlowContext
from tests.waiting import eventually

CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.jump (seconds float8 NOT NULL);
INSERT INTO clock.jump VALUES (0);
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$ BEGIN
    RETURN pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM clock.jump));
END $$;
"""


def register(flow: Flow) -> None:
    async def nothing(number: int) -> int:
        return number

    @flow.workflow(name="naps")
    async def naps(ctx: FlowContext, seconds: float) -> list[float]:
        began = ctx.now()
        await ctx.sleep(seconds)
        await ctx.step(nothing, 1)
        return [began.timestamp(), ctx.now().timestamp()]

    @flow.workflow(name="chain")
    async def chain(ctx: FlowContext) -> int:
        return sum([await ctx.step(nothing, 1) for _ in range(20)])

    @flow.workflow(name="waits")
    async def waits(ctx: FlowContext) -> int:
        return await ctx.wait_signal("go")


@asynccontextmanager
async def working(flow: Flow, **settings: object) -> AsyncIterator[None]:
    task = asyncio.create_task(flow.run_worker(**settings))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("off", [-86_400 * 365, 86_400 * 365], ids=["a year slow", "a year fast"])
async def test_a_worker_whose_clock_is_wrong(
    flow: Flow, serving, sql, monkeypatch, off: float
) -> None:
    """The clock of a worker's host decides nothing: timers, delays and times in the journal are the
    database's.
    """
    real = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real[0]() + off)
    monkeypatch.setattr(time, "time_ns", lambda: real[1]() + int(off * 1e9))
    register(flow)
    async with serving(flow):
        began, ended = await flow.run("naps", 0.3, timeout=10)
        later = await flow.start("chain", delay=0.3)
        assert await flow.result(later, timeout=10) == 20
    assert began + 0.3 <= ended < began + 5
    now = await sql.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    assert now - 60 < began < now
    rows = await sql.fetch("SELECT started_at, at FROM journal")
    stamps = [stamp.timestamp() for row in rows for stamp in row]
    assert all(now - 60 < stamp < now + 1 for stamp in stamps)


@pytest.fixture
async def moved(database) -> AsyncIterator[tuple[Flow, object]]:
    """A Flow on a server whose clock can be moved, and what moves it."""
    admin = await asyncpg.connect(database.dsn)
    await admin.execute(CLOCK)
    name = database.dsn.rpartition("/")[2]
    await admin.execute(f'ALTER DATABASE "{name}" SET search_path = clock, pg_catalog, public')

    async def jump(seconds: float) -> None:
        await admin.execute("UPDATE clock.jump SET seconds = seconds + $1", seconds)

    flow = Flow(database.url)
    register(flow)
    async with flow:
        yield flow, jump
    await admin.close()


class Counted:
    """Counts the claims and parks of a worker."""

    def __init__(self, flow: Flow) -> None:
        self.seen: Counter[str] = Counter()
        worker = flow._workers[0]
        for store, name in (
            (worker._claim_store, "claim_runs"),
            (worker._endings._store, "park_runs"),
        ):
            setattr(store, name, self._counted(name, getattr(store, name)))

    def _counted(self, name: str, real):
        async def call(*args):
            self.seen[name] += 1
            return await real(*args)

        return call


@pytest.mark.parametrize("seconds", [3600.0, 20.0, -20.0, -3600.0])
@pytest.mark.parametrize("slots", [1, 10])
async def test_a_server_whose_clock_jumps(moved, seconds: float, slots: int) -> None:
    """The server's clock jumps ahead or back while runs work, sleep and wait: nothing is lost, what
    is asleep wakes by the new time, and nobody asks in a circle.
    """
    flow, jump = moved
    async with working(flow, concurrency=slots):
        await eventually(lambda: flow._workers and flow._workers[0].ready.is_set())
        long = await flow.start("naps", 1800.0)
        waiting = await flow.start("waits")
        sql = await asyncpg.connect(flow._dsn, server_settings={"search_path": "forktex_flow"})
        statuses = "SELECT count(*) = 2 FROM run WHERE status = 'waiting'"
        await eventually(lambda: sql.fetchval(statuses))
        counted, began = Counted(flow), time.monotonic()
        await jump(seconds)
        if seconds > 1800:
            slept = await flow.result(long, timeout=20)
            assert slept[1] - slept[0] >= 1800
        assert await flow.run("chain", timeout=20) == 20
        await flow.send_signal(waiting, "go", 7)
        assert await flow.result(waiting, timeout=20) == 7
        ticks = int(time.monotonic() - began) + 1
        assert counted.seen["park_runs"] <= 4 * ticks + 4, (counted.seen, ticks)
        assert counted.seen["claim_runs"] <= 8 * ticks + 16, (counted.seen, ticks)
        if seconds < 1800:
            assert await sql.fetchval("SELECT status FROM run WHERE id = $1", long) == "waiting"
            due = await sql.fetchval("SELECT due_at - created_at FROM run WHERE id = $1", long)
            assert due >= timedelta(seconds=1799)
        alive = "SELECT count(*) FROM worker WHERE ended_at IS NULL"
        assert await sql.fetchval(alive) == 1
        await sql.close()


async def test_two_workers_through_a_jump(moved, database) -> None:
    """A jump by more than the lease makes every heartbeat look old: lives may be given up and begin
    anew, and every run ends right, each step recorded once.
    """
    flow, jump = moved
    other = Flow(database.url)
    register(other)
    async with working(flow, lease=5), other, working(other, lease=5):
        for worker in (flow, other):
            await eventually(lambda w=worker: w._workers and w._workers[0].ready.is_set())
        ids = await flow.start_many("chain", [None] * 50)
        await jump(3600)
        ids += await flow.start_many("chain", [None] * 50)
        assert await asyncio.gather(*(flow.result(i, timeout=30) for i in ids)) == [20] * 100
        await jump(-3600)
        assert await flow.run("chain", timeout=30) == 20
