# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One run of 1,000 sequential steps against one raw fenced INSERT after another: medians and 99th
percentiles. With ``--slow`` also what a step costs at the end of a journal of 100,000.
"""

import asyncio
import statistics
import sys
import time

from benchmarks.flow.setting import SCHEMA, Floor, build, median_p99, served, verdict
from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow, FlowContext, StepContext

CHAIN, ROUNDS, LONG, PIECE = 1000, 3, 100_000, 10_000


def timed(flow: Flow, took: list[float]) -> None:
    """Register a chain that notes how long each step took: from the call to the body's going on."""

    @flow.step
    async def nothing(ctx: StepContext) -> None:
        pass

    @flow.workflow(name="timed")
    async def chain(ctx: FlowContext, steps: int) -> None:
        for _ in range(steps):
            began = time.perf_counter()
            await nothing(ctx)
            took.append(time.perf_counter() - began)


async def growth(flow: Flow, took: list[float]) -> None:
    """Print the median step of each tenth of a long run."""
    took.clear()
    await flow.run("timed", LONG)
    pieces = [statistics.median(took[n : n + PIECE]) * 1e3 for n in range(0, LONG, PIECE)]
    print(f"  median ms by ten thousand steps: {' '.join(f'{p:.2f}' for p in pieces)}")
    ratio = pieces[-1] / pieces[0]
    verdict("last tenth / first of 100,000 steps", ratio, "no growth", met=ratio < 1.15)


async def measure(dsn: str, *, slow: bool) -> None:
    """Take turns, print."""
    raw: list[float] = []
    ours: list[float] = []
    took: list[float] = []
    flow = build(dsn)
    timed(flow, took)
    async with flow, Floor(dsn) as floor, served(flow, lead=False):
        await flow.run("timed", 100)
        for _ in range(ROUNDS):
            raw += await floor.single(CHAIN)
            took.clear()
            await flow.run("timed", CHAIN)
            ours += took
        (a, b), (x, y) = median_p99(raw), median_p99(ours)
        print(f"  raw INSERT {a * 1e3:.3f} ms (p99 {b * 1e3:.3f}), step {x * 1e3:.3f} ms "
              f"(p99 {y * 1e3:.3f}), schema {SCHEMA}")  # fmt: skip
        verdict("median step / raw INSERT", x / a, "at most 1.3", met=x / a <= 1.3)
        verdict("p99 step / p99 INSERT", y / b, "at most 2", met=y / b <= 2)
        if slow:
            await growth(flow, took)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn, slow="--slow" in sys.argv))
