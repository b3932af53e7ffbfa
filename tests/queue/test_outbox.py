# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The outbox: a job lives and dies with the caller's transaction."""

import asyncio
import signal
import sys

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from forktex_core.queue import ConfigurationError, Queue
from forktex_core.queue.testing import drain, inline
from tests.queue import teller
from tests.queue.conftest import working
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


@pytest.mark.parametrize(
    ("moment", "jobs"),
    [
        ("before the commit", 0),
        ("after the commit", teller.JOBS),
        ("after the relay", teller.JOBS),
        ("never", teller.JOBS),
    ],
)
async def test_sigkill_around_the_commit(redis_url, database, engine, moment, jobs):
    """A service killed before its commit enqueued nothing; killed between commit and relay, or
    between the relay and its note, each job of it runs once, as does each row exist."""
    ran = []
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE payment (number int)"))
    async with Queue(redis_url, outbox=engine) as queue:
        await queue.create_outbox()

        @queue.job
        async def receipt(number: int) -> None:
            ran.append(number)

        service = await asyncio.create_subprocess_exec(
            sys.executable, teller.__file__, redis_url, database.url, moment
        )
        assert await service.wait() == (0 if moment == "never" else -signal.SIGKILL)
        async with working(queue):
            if not jobs:
                await relayed_often(engine)
            await eventually(lambda: len(ran) >= jobs)
            await eventually(lambda: empty(engine))
    assert sorted(ran) == list(range(jobs))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM payment"))).scalar() == jobs


async def empty(engine) -> bool:
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT count(*) FROM forktex_queue.outbox"))
        return found.scalar() == 0


async def relayed_often(engine) -> None:
    """Wait until a worker has looked into the outbox."""
    mark = text("INSERT INTO forktex_queue.outbox (queue, message, words) VALUES (:q, :m, :w)")
    words = {"q": "default", "m": "x", "w": '["n", "", ""]'}
    async with engine.begin() as connection:
        await connection.execute(mark, words)
    await eventually(lambda: empty(engine))


async def test_a_row_that_is_no_job(boxed, engine):
    """A row that somebody else wrote stops no other row: it becomes a dead letter."""
    note = boxed.jobs["note"]
    insert = text("INSERT INTO forktex_queue.outbox (queue, message, words) VALUES (:q, :m, :w)")
    async with engine.begin() as connection:
        await connection.execute(insert, {"q": "default", "m": "no job", "w": "nothing"})
    async with AsyncSession(engine) as session:
        await note.options(session=session).enqueue(1)
        await session.commit()
    await eventually(lambda: empty(engine))
    await drain(boxed)
    assert boxed.ran == [1]
    (letter,) = await boxed.failures()
    assert letter.arguments == "no job"


async def test_outbox_that_does_not_exist(redis_url, engine):
    """Without ``create_outbox`` the error names the call; a queue without a database, too."""
    async with Queue(redis_url, outbox=engine) as queue:

        @queue.job
        async def noop() -> None: ...

        async with AsyncSession(engine) as session:
            with pytest.raises(ConfigurationError, match="create_outbox"):
                await queue.enqueue("noop", session=session)
        with pytest.raises(ConfigurationError, match="create_outbox"):
            await queue.relay()
    with pytest.raises(ConfigurationError, match="no outbox"):
        await Queue(redis_url).create_outbox()


async def test_a_worker_outlives_its_outbox(redis_url):
    """A database that can't be reached, or has no outbox yet, doesn't stop a worker's jobs."""
    engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/nothing")
    ran = []
    async with Queue(redis_url, outbox=engine) as queue:

        @queue.job
        async def note() -> None:
            ran.append(1)

        async with working(queue):
            await note.enqueue()
            await eventually(lambda: ran == [1])


async def test_options_go_through_the_outbox(boxed, engine):
    """Delay, priority and unique key of a job are what they were, counted from the enqueueing."""
    note = boxed.jobs["note"]
    async with AsyncSession(engine) as session:
        await note.options(session=session, delay=3600).enqueue(1)
        await note.options(session=session, priority="low").enqueue(2)
        await session.commit()
    await eventually(lambda: empty(engine))
    stats = await boxed.stats()
    assert (stats.delayed, stats.lanes["low"].waiting) == (1, 1)


async def test_savepoints(boxed, engine):
    """A savepoint's release is no commit; what its rollback takes back is never enqueued."""
    note = boxed.jobs["note"]
    async with AsyncSession(engine) as session:
        async with session.begin_nested():
            await note.options(session=session).enqueue(1)
        undone = await session.begin_nested()
        await note.options(session=session).enqueue(2)
        await undone.rollback()
        assert await waiting(boxed) == 0
        await session.commit()
        await eventually(lambda: waiting(boxed))
        await note.options(session=session).enqueue(3)
        await session.commit()
    await eventually(lambda: empty(engine))
    await drain(boxed)
    assert boxed.ran == [1, 3]


async def test_batches_have_no_session(boxed):
    """A batch begins at once: it takes no session."""
    with pytest.raises(TypeError, match="session"):
        await boxed.batch([boxed.jobs["note"].call(1)], session=None)


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
