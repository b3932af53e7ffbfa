# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Starting runs and sending signals inside the caller's own SQLAlchemy transaction."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from forktex_core.flow import Flow, RunNotFoundError
from tests.waiting import eventually


def register(flow: Flow) -> None:
    @flow.workflow(name="ship")
    async def ship(ctx, order: int) -> int:
        return order

    @flow.workflow(name="wait")
    async def wait(ctx) -> str:
        return await ctx.wait_signal("go")


@pytest.fixture
async def engine(postgres, schema: str) -> AsyncIterator[AsyncEngine]:
    """The engine of a service, with a table of its own."""
    made = create_async_engine(postgres.url)
    async with made.begin() as connection:
        await connection.execute(text(f'CREATE SCHEMA "{schema}"'))
        await connection.execute(text(f'CREATE TABLE "{schema}".orders (number integer)'))
        await connection.execute(text("SELECT 1"))
    yield made
    await made.dispose()


async def order(session: AsyncSession, schema: str, number: int) -> None:
    await session.execute(text(f'INSERT INTO "{schema}".orders VALUES ({number})'))


async def test_committed_together(flow: Flow, engine, serving, schema, sql) -> None:
    """Before the commit nobody sees the run; after it, it is executed without waiting for a poll of
    anybody else, and its row stands beside the caller's.
    """
    register(flow)
    async with serving(flow):
        async with AsyncSession(engine) as session, session.begin():
            await order(session, schema, 1)
            run_id = await flow.start("ship", 1, session=session, metadata={"a": "ü"}, key="k")
            many = await flow.start_many("ship", [2, 3], session=session)
            with pytest.raises(RunNotFoundError):
                await flow.result(run_id, timeout=1)
        results = [await flow.result(i, timeout=10) for i in (run_id, *many)]
    assert results == [1, 2, 3]
    assert await sql.fetchval("SELECT count(*) FROM orders") == 1
    assert await sql.fetchval("SELECT metadata->>'a' FROM run WHERE id = $1", run_id) == "ü"


async def test_rolled_back_together(flow: Flow, engine, schema, sql) -> None:
    """An error after the start leaves neither run, nor signal, nor row."""
    register(flow)
    async with flow:
        waiting = await flow.start("wait")
        with pytest.raises(ZeroDivisionError):
            async with AsyncSession(engine) as session, session.begin():
                await order(session, schema, 1)
                await flow.start("ship", 1, session=session)
                await flow.start_many("ship", [1, 2], session=session)
                assert await flow.send_signal(waiting, "go", 1, session=session)
                raise ZeroDivisionError
    assert await sql.fetchval("SELECT count(*) FROM run") == 1
    assert await sql.fetchval("SELECT count(*) FROM signal") == 0
    assert await sql.fetchval("SELECT count(*) FROM orders") == 0


async def test_a_savepoint_that_is_rolled_back(flow: Flow, engine, serving) -> None:
    """What was started in it is gone, what was started around it commits and wakes a worker."""
    register(flow)
    async with serving(flow):
        async with AsyncSession(engine) as session, session.begin():
            kept = await flow.start("ship", 1, session=session)
            inner = await session.begin_nested()
            lost = await flow.start("ship", 2, session=session)
            await inner.rollback()
            async with session.begin_nested():
                later = await flow.start("ship", 3, session=session)
        assert [await flow.result(i, timeout=10) for i in (kept, later)] == [1, 3]
        with pytest.raises(RunNotFoundError):
            await flow.result(lost, timeout=1)


async def test_the_wake_up_comes_after_the_commit(flow: Flow, engine) -> None:
    """It is sent once the transaction is durable, once for each, and never for one rolled back."""
    register(flow)
    told: list[str] = []
    async with flow:
        flow._open.notifier.work = told.append  # type: ignore[method-assign]
        async with AsyncSession(engine) as session:
            for number in range(2):
                async with session.begin():
                    await flow.start("ship", 1, session=session, queue=f"q{number}")
                    async with session.begin_nested():
                        await order_nothing(session)
                    await order_nothing(session)
                    assert told == [f"q{n}" for n in range(number)]
                await eventually(lambda n=number: told == [f"q{m}" for m in range(n + 1)])
            await flow.start("ship", 1, session=session, queue="lost")
            await session.rollback()
            async with session.begin():
                await order_nothing(session)
            await asyncio.sleep(0)
    assert told == ["q0", "q1"]


async def order_nothing(session: AsyncSession) -> None:
    await session.execute(text("SELECT 1"))


async def test_idempotency_in_a_session(flow: Flow, engine, sql) -> None:
    """A key that is taken, here or outside, returns the run that holds it; transactions with one
    key make one run.
    """
    register(flow)
    async with flow:
        outside = await flow.start("ship", 1, idempotency_key="a")
        dedup = await flow.start("ship", 1, deduplication_key="d")

        async def begin(number: int):
            async with AsyncSession(engine) as session, session.begin():
                return await flow.start("ship", number, idempotency_key="b", session=session)

        async with AsyncSession(engine) as session, session.begin():
            assert await flow.start("ship", 2, idempotency_key="a", session=session) == outside
            assert await flow.start("ship", 2, deduplication_key="d", session=session) == dedup
        assert len(set(await asyncio.gather(*map(begin, range(8))))) == 1
    assert await sql.fetchval("SELECT count(*) FROM run") == 3


async def test_signals_in_a_session(flow: Flow, engine, serving) -> None:
    """A signal is delivered when its transaction has committed, dropped when its key was used."""
    register(flow)
    async with serving(flow):
        run_id = await flow.start("wait")
        async with AsyncSession(engine) as session, session.begin():
            send = flow.send_signal(run_id, "go", "here", idempotency_key="k", session=session)
            assert await send
            assert not await flow.send_signal(run_id, "go", idempotency_key="k", session=session)
        assert await flow.result(run_id, timeout=10) == "here"


async def test_a_synchronous_session(flow: Flow, engine, serving) -> None:
    """A Session serves as well as an AsyncSession."""
    register(flow)
    async with serving(flow):
        session = Session(engine.sync_engine)
        run_id = await flow.start("ship", 5, session=session, delay=0.1, timeout=60)
        async with AsyncSession(engine) as aside:
            aside.sync_session = session
            await aside.commit()
            await aside.close()
        assert await flow.result(run_id, timeout=10) == 5


async def test_delays_and_priorities_in_a_session(flow: Flow, engine, sql) -> None:
    """All options mean what they mean without a session."""
    register(flow)
    async with flow:
        options = {"priority": 3, "delay": 60, "timeout": 30, "key": "k", "queue": "q"}
        plain = await flow.start("ship", 1, **options)
        async with AsyncSession(engine) as session, session.begin():
            inside = await flow.start("ship", 1, session=session, **options)
            many = await flow.start_many("ship", [1], session=session, **options)
        rows = await sql.fetch(
            "SELECT workflow, version, lane, queue, priority, status, key, input::text, timeout,"
            " deadline_at - due_at AS allowed,"
            " round(extract(epoch FROM due_at - created_at)) AS late FROM run WHERE id = ANY ($1)",
            [plain, inside, *many],
        )
    assert len(rows) == 3
    assert len({tuple(row) for row in rows}) == 1


def test_importing_flow_is_light() -> None:
    """A service without SQLAlchemy sessions never loads it, and what only some use comes late."""
    heavy = ("sqlalchemy", "pydantic", "zoneinfo", "cronsim", "cel", "click", "importlib.resources")
    code = f"import forktex_core.flow, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
