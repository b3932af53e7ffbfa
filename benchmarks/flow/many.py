# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Many runs: 200 of 20 steps, 50 at a time, against the raw group commit.

Two floors: batches of 50 in a bare loop, and (as an engine's steps do) 50 coroutines, each of which
waits for its entry's commit. All take turns.
"""

import asyncio
import statistics
import time
from uuid import uuid4

from benchmarks.flow.setting import Floor, GroupCommit, build, line, served, verdict
from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow

RUNS, STEPS, AT_A_TIME, ROUNDS = 200, 20, 50, 7


async def coroutines(floor: Floor) -> float:
    """Return entries per second of 50 coroutines at a time over a group commit."""
    commit, at_a_time = GroupCommit(floor), asyncio.Semaphore(AT_A_TIME)

    async def run() -> None:
        async with at_a_time:
            run_id = uuid4()
            for number in range(STEPS):
                await commit.append(line(run_id, number))

    began = time.perf_counter()
    await asyncio.gather(*(run() for _ in range(RUNS)))
    return RUNS * STEPS / (time.perf_counter() - began)


async def many(flow: Flow) -> float:
    """Return steps per second, from the start of the runs to the last result."""
    began = time.perf_counter()
    ids = await flow.start_many("chain", [STEPS] * RUNS)
    await asyncio.gather(*(flow.result(i) for i in ids))
    return RUNS * STEPS / (time.perf_counter() - began)


async def measure(dsn: str) -> None:
    """Take turns, print the medians."""
    rates: dict[str, list[float]] = {"batches": [], "coroutines": [], "flow": [], "CPU": []}
    flow, floor = build(dsn), Floor(dsn)
    async with flow, floor, served(flow, concurrency=AT_A_TIME, lead=False):
        await many(flow)
        for _ in range(ROUNDS):
            rates["batches"].append(await floor.batches(RUNS * STEPS, AT_A_TIME))
            rates["coroutines"].append(await coroutines(floor))
            began = time.process_time()
            rates["flow"].append(await many(flow))
            rates["CPU"].append((time.process_time() - began) / RUNS / STEPS * 1e6)
    batches, fair, ours, cpu = (statistics.median(r) for r in rates.values())
    print(f"  raw group commit, batches of {AT_A_TIME}: {batches:,.0f} steps/s")
    print(f"  raw group commit, {AT_A_TIME} coroutines: {fair:,.0f} steps/s")
    print(f"  flow, {RUNS} runs x {STEPS} steps, {AT_A_TIME} at a time: {ours:,.0f} steps/s, "
          f"{cpu:.1f} us CPU a step")  # fmt: skip
    verdict("flow / batches", ours / batches, "at least 0.5", met=ours / batches >= 0.5)
    verdict("flow / coroutines", ours / fair, "at least 0.5", met=ours / fair >= 0.5)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn))
