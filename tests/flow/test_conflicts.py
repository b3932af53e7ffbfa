# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Transactional steps that Postgres rolls back for the sake of another transaction."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from forktex_core.flow import Flow, FlowContext, Retry, RunFailed, StepContext
from forktex_core.flow.engine import transaction


@pytest.fixture
async def account(flow: Flow, sql, schema: str) -> str:
    """A table of the user's with two accounts."""
    async with flow:
        await sql.execute("CREATE TABLE account (name text PRIMARY KEY, amount integer NOT NULL)")
        await sql.execute("INSERT INTO account VALUES ('a', 0), ('b', 0)")
    return f'"{schema}".account'


async def test_a_deadlock_is_no_failure(flow: Flow, serving, sql, account: str) -> None:
    """Two steps lock the same two rows crosswise: the one that Postgres ends begins again, without
    an attempt being counted, and each takes effect once.
    """
    bodies: list[tuple[str, int]] = []
    locked: set[str] = set()
    both = asyncio.Event()

    @flow.step(transactional=True)
    async def move(ctx: StepContext, first: str, second: str) -> None:
        bodies.append((first, ctx.attempt))
        await ctx.session.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
        for name in (first, second):
            change = text(f"UPDATE {account} SET amount = amount + 1 WHERE name = :name")
            await ctx.session.execute(change, {"name": name})
            locked.add(name)
            if len(locked) == 2:
                both.set()
            await both.wait()  # each has locked its first row before either wants its second

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        await ctx.gather(move(ctx, "a", "b"), move(ctx, "b", "a"))

    async with serving(flow):
        await flow.run("body", timeout=10)
    assert len(bodies) == 3
    assert {attempt for _, attempt in bodies} == {1}
    assert [tuple(r) for r in await sql.fetch("SELECT * FROM account ORDER BY name")] == [
        ("a", 2),
        ("b", 2),
    ]


def _serializable(flow: Flow, sql, account: str, bodies: list[int], losing: int) -> None:
    """A step that another transaction overtakes the first ``losing`` times."""

    @flow.step(transactional=True, retries=Retry(max_attempts=2, initial=0.01))
    async def double(ctx: StepContext) -> int:
        bodies.append(ctx.attempt)
        session = ctx.session
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        read = text(f"SELECT amount FROM {account} WHERE name = 'a'")
        amount = (await session.execute(read)).scalar_one()
        if len(bodies) <= losing:
            await sql.execute(f"UPDATE {account} SET amount = amount + 1 WHERE name = 'a'")
        change = text(f"UPDATE {account} SET amount = :amount WHERE name = 'a'")
        try:
            await session.execute(change, {"amount": amount * 2})
        except DBAPIError as error:  # as a repository of the user's might do
            raise RuntimeError("the account was not changed") from error
        return amount * 2

    @flow.workflow()
    async def body(ctx: FlowContext) -> int:
        return await double(ctx)


async def test_a_serialization_failure_is_no_failure(
    flow: Flow, serving, sql, account: str
) -> None:
    """A step that asked for a serializable transaction begins again when it was overtaken, also
    when the user's code gave the error another name: what it read and wrote is as if it ran alone.
    """
    bodies: list[int] = []
    _serializable(flow, sql, account, bodies, losing=2)
    async with serving(flow):
        assert await flow.run("body", timeout=10) == 4
    assert bodies == [1, 1, 1]
    assert await sql.fetchval("SELECT amount FROM account WHERE name = 'a'") == 4


async def test_a_step_that_always_gives_way_fails_in_the_end(
    flow: Flow, serving, sql, account: str, monkeypatch
) -> None:
    """Beginning again is bounded: then the conflict is the step's failure, under its own policy."""
    monkeypatch.setattr(transaction, "_MOST_CONFLICTS", 1)
    bodies: list[int] = []
    _serializable(flow, sql, account, bodies, losing=99)
    async with serving(flow):
        with pytest.raises(RunFailed, match="the account was not changed"):
            await flow.run("body", timeout=10)
    assert bodies == [1, 1, 2, 2]
