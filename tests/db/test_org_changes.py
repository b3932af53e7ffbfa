# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Bulk updates and deletes: they change the organisation's rows."""

from typing import Any

import pytest
from sqlalchemy import (
    Executable,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)

from forktex_core.db import (
    CrossOrgError,
    MissingScopeError,
    UnscopedStatementError,
    get_session,
    org_scope,
)
from tests.db.books import BILL, CLIENT, A, B, Bill, Client, Country, bill_id, everything, shown

pytestmark = pytest.mark.usefixtures("books")

UPDATES: dict[str, Executable] = {
    "all": update(Bill).values(amount=9),
    "ordered": update(Bill).ordered_values((Bill.amount, 9)),
    "where": update(Bill).where(Bill.number.in_(["a1", "a2", "b1", "b2"])).values(amount=9),
    "returning": update(Bill).values(amount=9).returning(Bill),
    "no synchronisation": update(Bill)
    .values(amount=9)
    .execution_options(synchronize_session=False),
    "from a subquery": update(Bill)
    .where(Bill.client_id.in_(select(Client.id)))
    .values(amount=9)
    .execution_options(synchronize_session=False),
    "that Python can't evaluate": update(Bill)
    .where(Bill.client_id.in_(select(Client.id)))
    .values(amount=9),
    "with fetched keys": update(Bill)
    .values(amount=9)
    .execution_options(synchronize_session="fetch"),
    "evaluated in Python": update(Bill)
    .values(amount=9)
    .execution_options(synchronize_session="evaluate"),
}


@pytest.mark.parametrize("way", UPDATES)
async def test_bulk_updates_change_only_rows_of_the_scope(way: str) -> None:
    """An UPDATE without a WHERE is still one organisation's."""
    with org_scope(A):
        async with get_session() as session:
            await session.execute(UPDATES[way])
    assert await everything(Bill, "amount") == {"a1": 9, "a2": 9, "b1": 1, "b2": 1}


DELETES: dict[str, Executable] = {
    "all": delete(Bill),
    "where": delete(Bill).where(Bill.amount == 1),
    "returning": delete(Bill).returning(Bill.number),
}


@pytest.mark.parametrize("way", DELETES)
async def test_bulk_deletes_remove_only_rows_of_the_scope(way: str) -> None:
    """A DELETE without a WHERE is still one organisation's."""
    with org_scope(A):
        async with get_session() as session:
            await session.execute(DELETES[way])
    assert list(await everything()) == ["b1", "b2"]


@pytest.mark.parametrize("way", [*UPDATES, *(f"delete: {way}" for way in DELETES)])
async def test_bulk_changes_without_a_scope_fail_closed(way: str) -> None:
    """No scope, no change."""
    statement = UPDATES.get(way)
    if statement is None:
        statement = DELETES[way.removeprefix("delete: ")]
    async with get_session() as session:
        with pytest.raises(MissingScopeError):
            await session.execute(statement)
    assert set((await everything(Bill, "amount")).values()) == {1}
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


READING_CHANGES: dict[str, Executable] = {
    "update by a second model": update(Country)
    .values(name="changed")
    .where(Country.id == Client.country_id),
    "update by a subquery": update(Country)
    .values(name="changed")
    .where(Country.id.in_(select(Client.country_id))),
    "update by EXISTS": update(Country)
    .values(name="changed")
    .where(exists().where(Client.country_id == Country.id)),
    "update by a relationship": update(Country).values(name="changed").where(Country.clients.any()),
}


@pytest.mark.parametrize("way", READING_CHANGES)
async def test_a_change_of_shared_rows_reads_only_rows_of_the_scope(way: str) -> None:
    """What decides about a shared row is this organisation's, or the statement is refused."""
    statement = READING_CHANGES[way].execution_options(synchronize_session=False)
    with org_scope(A):
        async with get_session() as session:
            try:
                await session.execute(statement)
            except UnscopedStatementError:
                await session.rollback()
    assert "b" in await everything(Country, "name")


@pytest.mark.parametrize("way", ["auto", "fetch", "evaluate"])
@pytest.mark.parametrize("found", [select(Client.id), select(CLIENT.c.id)])
async def test_loaded_objects_follow_a_bulk_change(way: Any, found: Any) -> None:
    """The session's objects show what a bulk change made of them, and forget what it deleted;
    a bare table in its conditions stays refused, whatever the way of synchronising."""
    change = update(Bill).values(amount=9)
    if way != "evaluate":
        change = change.where(Bill.client_id.in_(found))
    refused = way != "evaluate" and found.columns_clause_froms[0] is CLIENT
    with org_scope(A):
        async with get_session() as session:
            bills = (await session.scalars(select(Bill).order_by(Bill.number))).all()
            if refused:
                with pytest.raises(UnscopedStatementError):
                    await session.execute(change.execution_options(synchronize_session=way))
                return
            await session.execute(change.execution_options(synchronize_session=way))
            assert [bill.amount for bill in bills] == [9, 9]
            gone = delete(Bill).where(Bill.number == "a1")
            await session.execute(gone.execution_options(synchronize_session=way))
            assert [bill in session for bill in bills] == [False, True]
    assert list(await everything()) == ["a2", "b1", "b2"]


async def test_keys_that_are_selected_from_the_model_are_filtered() -> None:
    """The one bare form that passes, as a bulk change's own, is within the filter's reach."""
    with org_scope(A):
        async with get_session() as session:
            keys = select(*BILL.primary_key, literal(None)).select_from(Bill)
            assert len((await session.execute(keys)).all()) == 2


async def test_a_changed_value_does_not_come_from_another_organisation() -> None:
    """A value computed from scoped rows is computed from the scope's."""
    highest = select(func.max(Bill.number)).scalar_subquery()
    with org_scope(A):
        async with get_session() as session:
            try:
                await session.execute(
                    update(Country)
                    .values(name=highest)
                    .execution_options(synchronize_session=False)
                )
            except UnscopedStatementError:
                await session.rollback()
    assert "b2" not in await everything(Country, "name")


async def test_returning_does_not_show_another_organisations_rows() -> None:
    """RETURNING a second model of an UPDATE ... FROM shows the scope's rows, or is refused."""
    statement = (
        update(Country)
        .values(name=Country.name)
        .where(Country.id == Client.country_id)
        .returning(Client.name)
        .execution_options(synchronize_session=False)
    )
    seen: list[str] = []
    with org_scope(A):
        async with get_session() as session:
            try:
                seen = shown(await session.execute(statement))
            except UnscopedStatementError:
                await session.rollback()
    assert "b0" not in seen


async def test_an_update_cannot_move_rows() -> None:
    """SET org_id is refused in every form, unless it is the scope's own."""
    moves: list[tuple[Any, Any]] = [
        (update(Bill).values(org_id=B), None),
        (update(Bill).values({Bill.org_id: B}), None),
        (update(Bill).ordered_values((Bill.org_id, B)), None),
        (update(Bill).values(org_id=func.gen_random_uuid()), None),
        (update(Bill), {"org_id": B}),
    ]
    for statement, parameters in moves:
        with org_scope(A), pytest.raises(CrossOrgError):
            async with get_session() as session:
                await session.execute(statement, parameters)
    with org_scope(A):
        async with get_session() as session:
            await session.execute(update(Bill).values(org_id=A))
    assert list((await everything(Bill, "org_id")).values()) == [A, A, B, B]


async def test_a_bulk_update_by_primary_key_is_refused() -> None:
    """It has no place for a filter: a guessed id would change another organisation's row."""
    rows = [{"id": await bill_id("b1"), "amount": 9}]
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(UnscopedStatementError, match=r"update\(Bill\)\.where"):
                await session.execute(update(Bill), rows)
    assert set((await everything(Bill, "amount")).values()) == {1}


async def test_a_flush_after_the_block_is_still_the_organisations() -> None:
    """The commit at the session's end may come after the scope's."""
    async with get_session() as session:
        with org_scope(A):
            session.add(Bill(number="a3"))
            bill = (await session.scalars(select(Bill).where(Bill.number == "a1"))).one()
        bill.amount = 5
    assert (await everything(Bill, "amount"))["a1"] == 5
    assert (await everything(Bill, "org_id"))["a3"] == A


async def test_a_delete_of_a_loaded_row_works_in_scope() -> None:
    """The unit of work deletes what it loaded."""
    with org_scope(A):
        async with get_session() as session:
            await session.delete((await session.scalars(select(Bill).limit(1))).one())
    assert len(await everything()) == 3
