# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A storm of cancellations leaks no connection."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from forktex_core.db import close_engine, get_session, healthcheck, init_engine
from tests.conftest import Database as Server
from tests.conftest import execute
from tests.waiting import eventually

POOL = 5
NAME = "cancelled tasks"


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """No engine outlives its test."""
    yield
    await close_engine()


async def other_connections() -> list[str | None]:
    """The states of this test's connections on the server, save the one that asks."""
    async with get_session() as session:
        found = await session.execute(
            text(
                "SELECT state FROM pg_stat_activity "
                "WHERE application_name = :name AND pid <> pg_backend_pid()"
            ),
            {"name": NAME},
        )
        return list(found.scalars())


async def at_work(number: int) -> None:
    """One of several kinds of work; each is cancelled in the middle of something."""
    async with get_session() as session:
        await session.execute(text("INSERT INTO done VALUES (:number)"), {"number": number})
        if number % 3 == 0:
            await session.execute(text("SELECT pg_sleep(5)"))
        await asyncio.Event().wait()


async def cancelled_at_random(chance: random.Random) -> None:
    """Cancel a task after a random number of turns of the loop; every other one twice."""
    number = chance.randrange(1_000_000)
    task = asyncio.create_task(at_work(number))
    for _ in range(chance.randrange(60)):
        await asyncio.sleep(0)
    task.cancel()
    if number % 2:
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_thousand_cancelled_tasks_leak_no_connection(database: Server) -> None:
    """Afterwards the pool lends nothing, the server has no busy connection, nothing is written."""
    await execute(database, "CREATE TABLE done (number integer)")
    init_engine(database.url, pool_size=POOL, max_overflow=POOL, application_name=NAME)
    chance = random.Random(7)
    await asyncio.gather(*(cancelled_at_random(chance) for _ in range(1000)))

    async def none_in_use() -> bool:
        return (await healthcheck()).in_use == 0

    async def none_busy() -> bool:
        return set(await other_connections()) <= {"idle"}

    assert await eventually(none_in_use)
    assert await eventually(none_busy)
    assert len(await other_connections()) < POOL
    async with get_session() as session:
        assert await session.scalar(text("SELECT count(*) FROM done")) == 0


async def test_every_place_in_the_pool_is_usable_after_the_storm(database: Server) -> None:
    """All connections can be had at once again: no place in the pool is lost."""
    await execute(database, "CREATE TABLE done (number integer)")
    init_engine(database.url, pool_size=POOL, max_overflow=0, pool_timeout=5, application_name=NAME)
    chance = random.Random(11)
    await asyncio.gather(*(cancelled_at_random(chance) for _ in range(200)))
    together = asyncio.Barrier(POOL)

    async def hold() -> int:
        async with get_session() as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            async with asyncio.timeout(10):
                await together.wait()
            return int(pid or 0)

    assert len(set(await asyncio.gather(*(hold() for _ in range(POOL))))) == POOL


async def test_closing_during_the_storm_leaves_nothing_on_the_server(
    database: Server, postgres: Server
) -> None:
    """`close_engine` waits for clean-ups under way: not one connection of ours remains."""
    await execute(database, "CREATE TABLE done (number integer)")
    init_engine(database.url, pool_size=POOL, max_overflow=POOL, application_name=NAME)
    chance = random.Random(13)
    await asyncio.gather(*(cancelled_at_random(chance) for _ in range(100)))
    await close_engine()
    init_engine(postgres.url, application_name="looks on")

    async def none_left() -> bool:
        return not await other_connections()

    assert await eventually(none_left)
