# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The outbox: a job lives and dies with the caller's transaction."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from forktex_core.queue import ConfigurationError, Queue
from forktex_core.queue.testing import drain, inline
from tests.waiting import eventually


@pytest.fixture
async def engine(database):
    """An engine of an empty database."""
    engine = create_async_engine(database.url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def boxed(redis_url, engine):
    """A queue with an outbox, and a job that notes its runs."""
    async with Queue(redis_url, outbox=engine) as queue:
        await queue.create_outbox()
        await queue.create_outbox()
        queue.ran = []

        @queue.job
        async def note(number: int) -> None:
            queue.ran.append(number)

        yield queue


async def waiting(queue) -> int:
    return (await queue.stats()).waiting


async def test_commit_relays_and_rollback_forgets(boxed, engine):
    """Nothing is enqueued before the commit, everything after it, nothing after a rollback."""
    note = boxed.jobs["note"]
    async with AsyncSession(engine) as session:
        await note.options(session=session).enqueue(1)
        await boxed.enqueue("note", 2, session=session)
        assert await waiting(boxed) == 0
        await session.commit()
    await eventually(lambda: waiting(boxed))
    async with AsyncSession(engine) as session:
        await note.options(session=session).enqueue(3)
        await session.rollback()
    await boxed.relay()
    await drain(boxed)
    assert boxed.ran == [1, 2]


async def test_crash_before_and_after_the_relay(boxed, engine):
    """A job whose process died after the commit is relayed by others; one relayed but not deleted
    isn't doubled."""
    note = boxed.jobs["note"]
    async with AsyncSession(engine) as session:
        await note.options(session=session).enqueue(1)
        rows = (await session.execute(text("SELECT * FROM forktex_queue.outbox"))).mappings().all()
        await session.rollback()
    insert = text(
        "INSERT INTO forktex_queue.outbox (queue, message, words) VALUES (:queue, :message, :words)"
    )
    for _ in range(2):
        async with engine.begin() as connection:
            await connection.execute(insert, [dict(row) for row in rows])
        assert await boxed.relay() == 1
    assert await waiting(boxed) == 1
    await drain(boxed)
    assert boxed.ran == [1]


async def test_no_outbox(queue, engine):
    """``session=`` without an outbox says what is missing."""

    @queue.job
    async def noop() -> None: ...

    async with AsyncSession(engine) as session:
        with pytest.raises(ConfigurationError, match="outbox=engine"):
            await noop.options(session=session).enqueue()


async def test_inline(queue):
    """Inline, a job runs where it is enqueued, through JSON, and its error is the caller's."""

    @queue.job
    async def half(number: int) -> float:
        if number < 0:
            raise ValueError(number)
        return number / 2

    with inline(queue) as ran:
        await half.enqueue(4)
        with pytest.raises(ValueError, match="-1"):
            await half.enqueue(-1)
    assert [(job.name, job.arguments, job.result) for job in ran.jobs] == [
        ("half", {"number": 4}, 2.0)
    ]
