# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Death and restart of the database under a working worker."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow
from tests.waiting import eventually


async def crash(server: EmbeddedPostgres) -> None:
    await server.kill()
    await server.start()


async def restart(server: EmbeddedPostgres) -> None:
    await server.restart()


@pytest.mark.parametrize("fall", [crash, restart])
async def test_runs_go_on_when_postgres_is_back(
    fall: Callable[[EmbeddedPostgres], Awaitable[None]],
) -> None:
    """Postgres dies twice under 20 runs: all complete, each key is recorded once, and no step that
    was committed runs again.
    """
    ran: dict[tuple[str, int], int] = {}
    async with EmbeddedPostgres() as server:
        flow = Flow(server.url)

        @flow.step
        async def effect(ctx, number: int) -> int:
            ran[str(ctx.run_id), number] = ran.get((str(ctx.run_id), number), 0) + 1
            await asyncio.sleep(0.01)
            return number

        @flow.workflow(name="chain")
        async def chain(ctx, steps: int) -> int:
            return sum([await effect(ctx, n) for n in range(steps)])

        async with flow:
            worker = asyncio.create_task(flow.run_worker())
            ids = await flow.start_many("chain", [60] * 20)
            results = asyncio.gather(*(flow.result(i, timeout=60) for i in ids))
            for goal in (200, 700):
                await eventually(lambda goal=goal: len(ran) > goal)
                await fall(server)
            assert await results == [sum(range(60))] * 20
            connection = await asyncpg.connect(server.dsn)
            assert await connection.fetchval("SELECT count(*) FROM forktex_flow.journal") == 1200
            takeovers = await connection.fetchval("SELECT sum(claim - 1) FROM forktex_flow.run")
            await connection.close()
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    assert sum(ran.values()) - len(ran) <= takeovers
