# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`retry_transaction`: what the server ends as a conflict is run again, and nothing else is."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from forktex_core.db import (
    ConfigurationError,
    NotInitializedError,
    RetriesExhaustedError,
    close_engine,
    get_session,
    init_engine,
    retry_transaction,
)
from tests.conftest import Database as Server
from tests.conftest import execute


@pytest.fixture(autouse=True)
async def accounts(database: Server) -> AsyncIterator[None]:
    """Two accounts with 10 each."""
    await execute(database, "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)")
    await execute(database, "INSERT INTO account VALUES (1, 10), (2, 10)")
    init_engine(database.url)
    yield
    await close_engine()


async def add(session: AsyncSession, account: int, amount: int) -> None:
    await session.execute(
        text("UPDATE account SET balance = balance + :amount WHERE id = :id"),
        {"amount": amount, "id": account},
    )


async def balances(session: AsyncSession) -> list[int]:
    return list(await session.scalars(text("SELECT balance FROM account ORDER BY id")))


async def stored() -> list[int]:
    async with get_session() as session:
        return await balances(session)


async def test_a_serialization_failure_is_run_again() -> None:
    """A transaction whose snapshot was overtaken starts over and sees the other's change."""
    seen = []

    async def work(session: AsyncSession) -> str:
        seen.append(await balances(session))
        if len(seen) == 1:
            async with get_session() as faster:
                await add(faster, 1, 5)
        await add(session, 1, 1)
        return "done"

    assert await retry_transaction(work, isolation_level="REPEATABLE READ") == "done"
    assert seen == [[10, 10], [15, 10]]
    assert await stored() == [16, 10]


async def test_a_conflict_found_by_the_commit_is_run_again() -> None:
    """Two that each read what the other writes: one commits, the other repeats and sees it."""
    both_have_read, runs = asyncio.Barrier(2), []

    async def withdraw(session: AsyncSession, account: int) -> None:
        runs.append(account)
        total = sum(await balances(session))
        if len(runs) <= 2:
            await both_have_read.wait()
        if total >= 20:
            await add(session, account, -10)
        if len(runs) <= 2:
            await both_have_read.wait()

    await asyncio.gather(
        *(
            retry_transaction(
                lambda session, account=account: withdraw(session, account),
                isolation_level="SERIALIZABLE",
            )
            for account in (1, 2)
        )
    )
    assert len(runs) == 3
    assert sum(await stored()) == 10, "the two together would have overdrawn"


async def test_a_deadlock_is_run_again() -> None:
    """Of two that lock the same rows in opposite order, the one the server ends repeats."""
    each_has_one, runs = asyncio.Barrier(2), []

    async def move(session: AsyncSession, first: int, second: int) -> None:
        runs.append(first)
        await add(session, first, -1)
        if len(runs) <= 2:
            await each_has_one.wait()
        await add(session, second, 1)

    await asyncio.gather(
        retry_transaction(lambda session: move(session, 1, 2)),
        retry_transaction(lambda session: move(session, 2, 1)),
    )
    assert len(runs) == 3
    assert await stored() == [10, 10]


async def test_exhausted_attempts_say_so() -> None:
    """A transaction that is overtaken each time ends in an error with the last conflict in it."""
    runs = []

    async def always_overtaken(session: AsyncSession) -> None:
        runs.append(await balances(session))
        async with get_session() as faster:
            await add(faster, 1, 1)
        await add(session, 1, 100)

    with pytest.raises(RetriesExhaustedError, match=r"(?s)all 3 attempts.*one order") as raised:
        await retry_transaction(always_overtaken, attempts=3, isolation_level="REPEATABLE READ")
    assert raised.value.attempts == len(runs) == 3
    assert "could not serialize" in str(raised.value.__cause__)
    assert await stored() == [13, 10], "no attempt has left anything"


async def test_another_error_is_raised_at_once() -> None:
    """A constraint is no conflict: trying again would end the same way."""
    runs = []

    async def twice_the_same(session: AsyncSession) -> None:
        runs.append(1)
        await add(session, 1, 1)
        await session.execute(text("INSERT INTO account VALUES (1, 0)"))

    with pytest.raises(IntegrityError):
        await retry_transaction(twice_the_same)
    assert len(runs) == 1
    assert await stored() == [10, 10]


async def test_the_callers_own_error_rolls_back_and_is_raised() -> None:
    """The transaction is undone, the error arrives unchanged."""

    async def fails(session: AsyncSession) -> None:
        await add(session, 1, 1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await retry_transaction(fails)
    assert await stored() == [10, 10]


async def test_the_engine_is_the_one_that_is_named(postgres: Server) -> None:
    """`name` says which database the transaction is in."""
    init_engine(postgres.url, name="other")

    async def place(session: AsyncSession) -> object:
        return await session.scalar(text("SELECT current_database()"))

    there = await retry_transaction(place, name="other")
    assert there == make_url(postgres.url).database != await retry_transaction(place)
    with pytest.raises(NotInitializedError, match="'third'"):
        await retry_transaction(place, name="third")


async def test_a_plain_function_goes_in_by_run_sync() -> None:
    """The documented form for a function of a plain session."""
    assert (
        await retry_transaction(
            lambda session: session.run_sync(lambda plain: plain.scalar(text("SELECT 7")))
        )
        == 7
    )


async def test_bad_arguments_are_refused() -> None:
    """No attempt at all and a function that is not async are errors of configuration."""
    with pytest.raises(ConfigurationError, match="at least 1, not 0"):
        await retry_transaction(add, attempts=0)  # type: ignore[arg-type]  # refused before its use
    with pytest.raises(ConfigurationError, match=r"run_sync\(function\)"):
        await retry_transaction(lambda _: 7)  # type: ignore[arg-type,return-value]  # the misuse
