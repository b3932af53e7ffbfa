# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Steps per second of one worker process, beside the raw floors on the same server.

Floors: (a) a loop of fenced, locking INSERTs on one connection, which is what a step costs an
    engine that commits each
step by itself; (b) group commit in one fenced statement per 50 entries, which is what flow's
journal writer is made of. All take turns; the medians of the rounds count. The server is an
embedded PostgreSQL with fsync on.
"""

import asyncio
import statistics
import sys
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow, FlowContext, StepContext
from forktex_core.flow.store.sql import queries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RUNS, STEPS, AT_A_TIME, CHAIN, ROUNDS = 200, 20, 50, 1000, 5
SCHEMA = "bench"


def build(dsn: str) -> Flow:
    """Return a Flow with one workflow of no-op steps."""
    flow = Flow(dsn, schema=SCHEMA)

    @flow.step
    async def noop(ctx: StepContext, number: int) -> int:
        return number

    @flow.workflow(name="chain")
    async def chain(ctx: FlowContext, steps: int) -> int:
        for number in range(steps):
            await noop(ctx, number)
        return steps

    return flow


def entries(worker: int, run: object, first: int, count: int) -> tuple[object, ...]:
    """Return the arguments of append_entries for some steps of a run."""
    keys = [str(first + n) for n in range(count)]
    return (
        worker, [run] * count, keys, list(range(first, first + count)), ["step"] * count,
        ["noop"] * count,
        [False] * count, ["1"] * count, [1] * count, [1] * count, [0.0] * count, [0.0] * count,
    )  # fmt: skip


class Floors:
    """The raw floors, on a connection of their own."""

    def __init__(self, connection: asyncpg.Connection, statement: object, worker: int) -> None:
        self._statement, self._worker = statement, worker
        self._connection = connection

    async def single(self) -> float:
        """Return the rate of one fenced INSERT after another."""
        run, began = uuid4(), time.perf_counter()
        for number in range(CHAIN):
            await self._statement.fetchval(*entries(self._worker, run, number, 1))  # type: ignore[attr-defined]
        return CHAIN / (time.perf_counter() - began)

    async def grouped(self) -> float:
        """Return the rate of entries in fenced statements of fifty."""
        total, began = RUNS * STEPS, time.perf_counter()
        for _ in range(total // AT_A_TIME):
            await self._statement.fetchval(*entries(self._worker, uuid4(), 0, AT_A_TIME))  # type: ignore[attr-defined]
        return total / (time.perf_counter() - began)


async def many(flow: Flow) -> float:
    """Return steps per second of 200 runs of 20 steps, 50 at a time."""
    began = time.perf_counter()
    ids = await flow.start_many("chain", [STEPS] * RUNS)
    await asyncio.gather(*(flow.result(i) for i in ids))
    return RUNS * STEPS / (time.perf_counter() - began)


async def one_chain(flow: Flow) -> float:
    """Return steps per second of one run of sequential steps."""
    began = time.perf_counter()
    await flow.run("chain", CHAIN)
    return CHAIN / (time.perf_counter() - began)


async def measure(dsn: str) -> dict[str, float]:
    """Take turns and return the medians."""
    flow = build(dsn)
    async with flow:
        connection = await asyncpg.connect(dsn)
        worker = await connection.fetchval(
            f"INSERT INTO {SCHEMA}.worker (name, host, pid, queues, lanes, slots, session_lock)"
            " VALUES ('floor', '', 0, '{}', '{}', 1, false) RETURNING id"
        )
        floors = Floors(
            connection, await connection.prepare(queries(SCHEMA)["append_entries"]), worker
        )
        serving = asyncio.create_task(flow.run_worker(concurrency=AT_A_TIME, lead=False))
        await many(flow)
        rates: dict[str, list[float]] = {}
        contenders: dict[str, Callable[[], Awaitable[float]]] = {
            "raw, one INSERT a step": floors.single,
            "raw, group commit of 50": floors.grouped,
            f"flow, {RUNS} runs x {STEPS} steps, {AT_A_TIME} at a time": lambda: many(flow),
            f"flow, one run of {CHAIN} steps": lambda: one_chain(flow),
        }
        for _ in range(ROUNDS):
            for name, contender in contenders.items():
                rates.setdefault(name, []).append(await contender())
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await connection.close()
    return {name: statistics.median(found) for name, found in rates.items()}


def main() -> None:
    """Print the rates and the ratios."""
    with EmbeddedPostgres() as server:
        rates = asyncio.run(measure(server.dsn))
    single, grouped, busy, chain = rates.values()
    width = max(map(len, rates))
    print(f"Python {sys.version.split()[0]}, median of {ROUNDS} rounds, steps per second")
    for name, rate in rates.items():
        print(f"  {name:{width}}  {rate:10,.0f}")
    print(f"  many runs / raw group commit: {busy / grouped:.2f} (target: at least 0.5)")
    print(f"  many runs / raw INSERT loop:  {busy / single:.2f}")
    print(f"  one chain: a step takes {single / chain:.2f} x one raw INSERT (target: at most 1.3)")


if __name__ == "__main__":
    main()
