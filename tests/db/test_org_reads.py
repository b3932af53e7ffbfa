# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a scope shows: every way of reading gives the organisation's rows, or an error."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    Executable,
    exists,
    func,
    literal,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    defer,
    immediateload,
    join,
    joinedload,
    selectinload,
    subqueryload,
    undefer,
    with_polymorphic,
)

from forktex_core.db import (
    MissingScopeError,
    get_engine,
    get_session,
    org_scope,
)
from tests.db.books import (
    BILL,
    A,
    B,
    Bill,
    Client,
    Country,
    Reminder,
    everything,
    shown,
)

pytestmark = pytest.mark.usefixtures("books")

other = aliased(Bill)
nested = select(Bill.number).subquery()
common = select(Bill.number, Bill.client_id).cte("those")
filtered = select(Client.id).subquery()
numbers_of_client = (
    select(func.string_agg(Bill.number, literal(" ").op("ORDER BY")(Bill.number)))
    .where(Bill.client_id == Client.id)
    .scalar_subquery()
)

FILTERED: dict[str, tuple[Executable, list[str]]] = {
    "columns": (select(Bill.number), ["a1", "a2"]),
    "bundle": (select(Bundle("b", Bill.number)), ["('a1',)", "('a2',)"]),
    "count of the model": (select(func.count()).select_from(Bill), ["2"]),
    "count of a column": (select(func.count(Bill.id)), ["2"]),
    "sum": (select(func.sum(Bill.amount)), ["2"]),
    "alias": (select(other.number), ["a1", "a2"]),
    "self join": (
        select(Bill.number, other.number).join(other, Bill.amount == other.amount),
        ["a1", "a1", "a1", "a1", "a2", "a2", "a2", "a2"],
    ),
    "subquery in FROM": (select(nested.c.number), ["a1", "a2"]),
    "CTE": (select(common.c.number), ["a1", "a2"]),
    "CTE joined": (
        select(Client.name, common.c.number).join(common, common.c.client_id == Client.id),
        ["a0", "a0", "a1", "a2"],
    ),
    "lateral": (select(select(Client.name).lateral("l").c.name), ["a0"]),
    "scalar subquery": (select(Client.name, numbers_of_client), ["a0", "a1 a2"]),
    "scalar subquery of another model": (
        select(Country.name, select(func.count(Bill.id)).scalar_subquery()),
        ["2", "2", "a", "b"],
    ),
    "IN (SELECT)": (
        select(Country.name).where(Country.id.in_(select(Client.country_id))),
        ["a"],
    ),
    "EXISTS": (
        select(Country.name).where(exists().where(Client.country_id == Country.id)),
        ["a"],
    ),
    "EXISTS of a select": (
        select(Country.name).where(select(Client.id).where(Client.name == "b0").exists()),
        [],
    ),
    "relationship any()": (select(Country.name).where(Country.clients.any()), ["a"]),
    "relationship has()": (select(Bill.number).where(Bill.client.has()), ["a1", "a2"]),
    "join": (select(Country.name, Client.name).join(Client), ["a", "a0"]),
    "join along the relationship": (
        select(Country.name, Client.name).join(Country.clients),
        ["a", "a0"],
    ),
    "join with a subquery of the model": (
        select(Country.name).select_from(join(Country, filtered, true())),
        ["a", "b"],
    ),
    "outer join": (
        select(Country.name, Client.name).outerjoin(Country.clients),
        ["None", "a", "a0", "b"],
    ),
    "two joins": (
        select(Country.name).join(Country.clients).join(Client.bills).distinct(),
        ["a"],
    ),
    "implicit join": (
        select(Country.name).where(Country.id == Client.country_id),
        ["a"],
    ),
    "union": (union_all(select(Bill.number), select(Client.name)), ["a0", "a1", "a2"]),
    "union in FROM": (
        select(union_all(select(Bill.number), select(Client.name)).subquery().c.number),
        ["a0", "a1", "a2"],
    ),
    "group by": (
        select(Bill.client_id.is_(None), func.count()).group_by(Bill.client_id),
        ["2", "False"],
    ),
    "window": (select(func.count().over()).select_from(Bill), ["2", "2"]),
    "order and limit": (select(Bill.number).order_by(Bill.number.desc()).limit(1), ["a2"]),
    "or": (select(Bill.number).where((Bill.number == "b1") | (Bill.number == "a1")), ["a1"]),
    "subclass": (select(Reminder.number), []),
    "polymorphic": (select(with_polymorphic(Bill, [Reminder]).number), ["a1", "a2"]),
    "FOR UPDATE": (select(Bill.number).with_for_update(), ["a1", "a2"]),
}


@pytest.mark.parametrize("way", FILTERED)
async def test_a_read_shows_the_rows_of_the_scope(way: str) -> None:
    """However the model is named in a select, the filter is there."""
    statement, expected = FILTERED[way]
    with org_scope(A):
        async with get_session() as session:
            assert shown(await session.execute(statement)) == expected


@pytest.mark.parametrize("way", FILTERED)
async def test_the_same_read_without_a_scope_fails_closed(way: str) -> None:
    """No scope, no rows: an error that says what to do."""
    async with get_session() as session:
        with pytest.raises(MissingScopeError, match=r"with org_scope\(org_id\)"):
            await session.execute(FILTERED[way][0])


async def test_a_statement_kept_from_one_scope_is_of_the_other_in_the_other() -> None:
    """The compiled statement is cached; the organisation in it is not."""
    seen = []
    for org in (A, B, A):
        with org_scope(org):
            async with get_session() as session:
                seen.append(shown(await session.execute(FILTERED["columns"][0])))
    assert seen == [["a1", "a2"], ["b1", "b2"], ["a1", "a2"]]


async def test_tasks_side_by_side_each_have_their_scope() -> None:
    """A scope belongs to its task, whatever else runs between its awaits."""

    async def numbers(org: UUID) -> list[str]:
        with org_scope(org):
            async with get_session() as session:
                return shown(await session.execute(select(Bill.number)))

    seen = await asyncio.gather(*(numbers(org) for org in (A, B) * 10))
    assert seen == [["a1", "a2"], ["b1", "b2"]] * 10


LOADERS = {
    "selectinload": selectinload,
    "joinedload": joinedload,
    "subqueryload": subqueryload,
    "immediateload": immediateload,
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
async def test_eager_loads_are_filtered(loader: Any) -> None:
    """A shared row brings only this organisation's rows along."""
    with org_scope(A):
        async with get_session() as session:
            query = select(Country).options(loader(Country.clients))
            found = (await session.scalars(query)).unique().all()
            loaded = {c.name: [client.name for client in c.clients] for c in found}
    assert loaded == {"a": ["a0"], "b": []}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
async def test_eager_loads_without_a_scope_fail_closed(loader: Any) -> None:
    """A shared row is free to read; what hangs on it is not."""
    async with get_session() as session:
        with pytest.raises(MissingScopeError, match="Client"):
            (await session.scalars(select(Country).options(loader(Country.clients)))).unique().all()


async def test_contains_eager_is_filtered() -> None:
    """A join that is written out and loaded from is filtered like any."""
    with org_scope(A):
        async with get_session() as session:
            query = select(Country).join(Country.clients).options(contains_eager(Country.clients))
            found = (await session.scalars(query)).unique().all()
            assert [(c.name, [x.name for x in c.clients]) for c in found] == [("a", ["a0"])]


async def test_lazy_loads_are_filtered() -> None:
    """So is a collection that is loaded when it is first looked at."""

    def names(session: Session) -> dict[str, list[str]]:
        return {c.name: [x.name for x in c.clients] for c in session.scalars(select(Country))}

    with org_scope(A):
        async with get_session() as session:
            assert await session.run_sync(names) == {"a": ["a0"], "b": []}


async def test_a_lazy_load_outside_of_the_scope_fails_closed() -> None:
    """A session that serves an organisation still asks for the scope at each use."""
    async with get_session() as session:
        with org_scope(A):
            (client,) = await session.scalars(select(Client))
        with pytest.raises(MissingScopeError, match="Bill"):
            await session.run_sync(lambda _: client.bills)


async def test_a_reference_to_another_organisations_row_loads_nothing() -> None:
    """A foreign key that points across leads nowhere, rather than across."""
    theirs = (await everything(Client, "id"))["b0"]
    async with get_engine().begin() as connection:
        await connection.execute(update(BILL).values(client_id=theirs))
    with org_scope(A):
        async with get_session() as session:
            query = select(Bill).options(joinedload(Bill.client))
            assert [bill.client for bill in await session.scalars(query)] == [None, None]


async def test_a_deferred_column_is_loaded_in_scope_only() -> None:
    """Reading a deferred column later is a read of its own."""
    async with get_session() as session:
        with org_scope(A):
            bill = (await session.scalars(select(Bill).options(defer(Bill.amount)))).first()
            assert bill is not None
        with pytest.raises(MissingScopeError):
            await session.refresh(bill, ["amount"])
        with org_scope(A):
            await session.refresh(bill, ["amount"])
            assert bill.amount == 1
            assert (await session.scalars(select(Bill).options(undefer(Bill.amount)))).all()


async def test_a_subclass_of_a_scoped_model_is_scoped() -> None:
    """Rows of a joined-table subclass carry the id and the filter of their parent's table."""
    for org, number in ((A, "a3"), (B, "b3")):
        with org_scope(org):
            async with get_session() as session:
                session.add(Reminder(number=number))
    with org_scope(A):
        async with get_session() as session:
            assert shown(await session.execute(select(Reminder.number))) == ["a3"]
            assert shown(await session.execute(select(Bill.number))) == ["a1", "a2", "a3"]
    assert (await everything(Bill, "org_id"))["b3"] == B


async def test_the_legacy_query_is_filtered() -> None:
    """`session.query` inside run_sync is under the same rule."""

    def numbers(session: Session) -> list[str]:
        return [
            *sorted(bill.number for bill in session.query(Bill)),
            str(session.query(Bill).count()),
        ]

    with org_scope(A):
        async with get_session() as session:
            assert await session.run_sync(numbers) == ["a1", "a2", "2"]
    async with get_session() as session:
        with pytest.raises(MissingScopeError):
            await session.run_sync(numbers)


async def test_a_stream_is_filtered() -> None:
    """Rows that arrive one by one are the scope's."""
    with org_scope(A):
        async with get_session() as session:
            rows = [row async for row in await session.stream(select(Bill.number))]
    assert shown(rows) == ["a1", "a2"]
