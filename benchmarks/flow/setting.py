# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the benchmarks of flow share: workflows of no-op steps, the raw floor, workers in this
process and in others.

The floor is what an engine can't do without: entries in a journal table (flow's own, with its key),
written by `INSERT ... SELECT FROM unnest` under a fence that is locked. Its rate includes what
asyncpg needs to send them.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID, uuid4

import asyncpg

from forktex_core.flow import Flow, FlowContext, StepContext

SCHEMA = "bench"

FLOOR = f"""
WITH fence AS MATERIALIZED (
    SELECT w.revoked FROM {SCHEMA}.worker w WHERE w.id = $1 AND w.ended_at IS NULL FOR KEY SHARE
), added AS (
    INSERT INTO {SCHEMA}.journal (run_id, key, seq, kind, name, failed, value, claim, attempt,
                                  worker_id, started_at, at)
    SELECT e.run_id, e.key, e.seq, e.kind, e.name, e.failed, e.value::json, e.claim, e.attempt, $1,
           to_timestamp(e.started_at), to_timestamp(e.at)
    FROM fence, unnest($2::uuid[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::boolean[],
                       $8::text[], $9::integer[], $10::integer[], $11::float8[], $12::float8[])
         AS e(run_id, key, seq, kind, name, failed, value, claim, attempt, started_at, at)
    ON CONFLICT (run_id, key) DO NOTHING RETURNING 1
) SELECT count(*) FROM added
"""


def build(dsn: str) -> Flow:
    """Return a Flow with the workflows that are measured."""
    flow = Flow(dsn, schema=SCHEMA)

    @flow.step
    async def noop(ctx: StepContext, number: int) -> int:
        return number

    @flow.step
    async def clock(ctx: StepContext) -> float:
        return time.time()

    @flow.workflow(name="chain")
    async def chain(ctx: FlowContext, steps: int) -> int:
        for number in range(steps):
            await noop(ctx, number)
        return steps

    @flow.workflow(name="clock")
    async def first(ctx: FlowContext) -> float:
        return await clock(ctx)

    @flow.workflow(name="parked")
    async def parked(ctx: FlowContext) -> float:
        await ctx.wait_signal("go")
        return await clock(ctx)

    return flow


def line(run: UUID, number: int) -> tuple[object, ...]:
    """Return an entry of a no-op step as the floor takes it."""
    return (run, str(number), number, "step", "noop", False, "1", 1, 1, 1.7e9, 1.7e9)


class Floor:
    """The raw floor, on a connection of its own; ``async with``."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def __aenter__(self) -> Self:
        self.connection = await asyncpg.connect(self._dsn)
        self._worker = await self.connection.fetchval(
            f"INSERT INTO {SCHEMA}.worker (name, host, pid, queues, lanes, slots, session_lock)"
            " VALUES ('floor', '', 0, '{}', '{}', 1, false) RETURNING id"
        )
        self._insert = await self.connection.prepare(FLOOR)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    async def write(self, lines: Sequence[tuple[object, ...]]) -> None:
        """Write entries in one fenced statement."""
        added = await self._insert.fetchval(self._worker, *zip(*lines, strict=True))
        assert added == len(lines)

    async def single(self, count: int) -> list[float]:
        """Return the seconds that each of so many INSERTs, one after another, took."""
        run, took = uuid4(), []
        for number in range(count):
            began = time.perf_counter()
            await self.write([line(run, number)])
            took.append(time.perf_counter() - began)
        return took

    async def batches(self, count: int, size: int) -> float:
        """Return entries per second of a bare loop of batches."""
        began = time.perf_counter()
        for _ in range(count // size):
            run = uuid4()
            await self.write([line(run, number) for number in range(size)])
        return count / (time.perf_counter() - began)


class GroupCommit:
    """The least that a group commit for coroutines needs: a list and one flush in flight."""

    def __init__(self, floor: Floor) -> None:
        self._floor, self._waiting = floor, []  # type: ignore[var-annotated]
        self._flushing: asyncio.Task[None] | None = None

    def append(self, entry: tuple[object, ...]) -> asyncio.Future[None]:
        """Write an entry; the future is done when it is committed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, entry))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return future

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._floor.write([entry for _, entry in batch])
            for future, _ in batch:
                future.set_result(None)
        self._flushing = None


@asynccontextmanager
async def served(flow: Flow, **settings: Any) -> AsyncIterator[None]:
    """Serve an open Flow in this process."""
    serving = asyncio.create_task(flow.run_worker(**settings))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@asynccontextmanager
async def workers(dsn: str, count: int = 1) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Serve in so many other processes, which are ready when this returns."""
    connection = await asyncpg.connect(dsn)
    living = f"SELECT count(*) FROM {SCHEMA}.worker WHERE ended_at IS NULL AND name <> 'floor'"
    before = await connection.fetchval(living)
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.flow.setting", dsn, env=dict(os.environ)
        )
        for _ in range(count)
    ]
    try:
        while await connection.fetchval(living) < before + count:
            await asyncio.sleep(0.05)
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        await connection.close()


def median_p99(times: Sequence[float]) -> tuple[float, float]:
    """Return median and 99th percentile."""
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def verdict(what: str, value: float, target: str, *, met: bool) -> None:
    """Print one figure beside its target."""
    print(f"  {what}: {value:,.2f} (target: {target}) {'ok' if met else 'MISSED'}", flush=True)


async def _serve(dsn: str) -> None:
    async with build(dsn) as flow:
        await flow.run_worker(handle_signals=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
