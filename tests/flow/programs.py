# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Workflows that crash tests run in worker processes: ``python -m tests.flow.programs DSN SCHEMA
LOG``.
"""

import asyncio
import os
import sys
from pathlib import Path

from forktex_core.flow import Flow, FlowContext, StepContext

STEPS = 20


def build(dsn: str, schema: str, log: Path) -> Flow:
    """Return a Flow whose steps leave a line each in a log, as the outside world would see them."""
    flow = Flow(dsn, schema=schema)

    @flow.step
    async def effect(ctx: StepContext, number: int) -> int:
        with log.open("a") as file:
            file.write(f"{ctx.run_id} {number} {os.getpid()}\n")
        await asyncio.sleep(0.002)
        return number

    @flow.workflow(name="chain")
    async def chain(ctx: FlowContext, steps: int) -> int:
        total = 0
        for number in range(steps):
            total += await effect(ctx, number)
        return total

    @flow.workflow(name="fan")
    async def fan(ctx: FlowContext, width: int) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(effect(ctx, n)) for n in range(width)]
        await ctx.sleep(0.01)
        return sum(t.result() for t in tasks)

    @flow.workflow(name="stuck")
    async def stuck(ctx: FlowContext) -> None:
        await ctx.step(_stay, str(log))

    return flow


async def _stay(log: str) -> None:
    await asyncio.to_thread(Path(log).touch)
    await asyncio.Event().wait()


async def serve(dsn: str, schema: str, log: str) -> None:
    """Serve until SIGTERM."""
    async with build(dsn, schema, Path(log)) as flow:
        await flow.run_worker(handle_signals=True, drain=5)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
