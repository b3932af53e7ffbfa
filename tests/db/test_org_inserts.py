# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What is written belongs to the organisation: leak 5, inserts."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import (
    Executable,
    bindparam,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import (
    selectinload,
)

from forktex_core.db import (
    CrossOrgError,
    MissingScopeError,
    ScopeError,
    UnscopedStatementError,
    get_session,
    org_scope,
    unscoped,
)
from tests.db.books import BILL, A, B, Bill, Client, Country, Reminder, everything

pytestmark = pytest.mark.usefixtures("books")


async def test_a_new_row_gets_the_id_of_the_scope() -> None:
    """Nobody writes org_id by hand; it is there as soon as the object is added."""
    with org_scope(A):
        async with get_session() as session:
            bill = Bill(number="a3")
            session.add(bill)
            assert bill.org_id == A
    assert (await everything(Bill, "org_id"))["a3"] == A


async def test_a_new_row_of_another_organisation_is_refused() -> None:
    """When it is added, or, if the id is changed after that, when it is flushed."""
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(CrossOrgError):
                session.add(Bill(number="x", org_id=B))
        with pytest.raises(CrossOrgError):
            async with get_session() as session:
                bill = Bill(number="x")
                session.add(bill)
                bill.org_id = B
    assert "x" not in await everything()


async def test_a_row_cannot_be_moved_to_another_organisation() -> None:
    """Changing org_id of a loaded row is refused at the flush."""
    with org_scope(A), pytest.raises(CrossOrgError):
        async with get_session() as session:
            bill = (await session.scalars(select(Bill))).first()
            assert bill is not None
            bill.org_id = B
    assert set((await everything(Bill, "org_id")).values()) == {A, B}
    assert (await everything(Bill, "org_id"))["a1"] == A


async def test_a_new_row_without_a_scope_is_refused() -> None:
    """Also when it names an organisation: that may be anybody's."""
    async with get_session() as session:
        for bill in (Bill(number="x"), Bill(number="x", org_id=A)):
            with pytest.raises(MissingScopeError):
                session.add(bill)
    assert "x" not in await everything()


async def test_what_a_relationship_brings_along_is_checked() -> None:
    """A new row that reaches the session by cascade is under the same rule."""
    with org_scope(A):
        async with get_session() as session:
            client = (
                await session.scalars(select(Client).options(selectinload(Client.bills)))
            ).one()
            client.bills.append(Bill(number="a3"))
            with pytest.raises(CrossOrgError):
                client.bills.append(Bill(number="x", org_id=B))
            client.bills = [bill for bill in client.bills if bill.number != "x"]
    assert (await everything(Bill, "org_id"))["a3"] == A
    assert "x" not in await everything()


async def test_unscoped_inserts_must_name_their_organisation() -> None:
    """Without one there is no id to give."""
    with unscoped(), pytest.raises(MissingScopeError, match="Bill"):
        async with get_session() as session:
            session.add(Bill(number="x"))


MANY = [{"number": "a3"}, {"number": "a4"}]
INSERTS: dict[str, tuple[Executable, Any]] = {
    "values": (insert(Bill).values(number="a3"), None),
    "many values": (insert(Bill).values(MANY), None),
    "parameters": (insert(Bill), MANY),
    "one parameter": (insert(Bill), {"number": "a3"}),
    "returning": (insert(Bill).returning(Bill), MANY),
    "PostgreSQL's": (pg_insert(Bill).values(number="a3").on_conflict_do_nothing(), None),
    "own id": (insert(Bill).values(number="a3", org_id=A), None),
    "own id in parameters": (insert(Bill), [{"number": "a3", "org_id": A}]),
    "from select": (
        insert(Bill).from_select(["id", "number"], select(literal(uuid4()), literal("a3"))),
        None,
    ),
}


@pytest.mark.parametrize("way", INSERTS)
async def test_bulk_inserts_carry_the_id(way: str) -> None:
    """Every form of INSERT through the model gives the rows to the organisation in scope."""
    statement, parameters = INSERTS[way]
    with org_scope(A):
        async with get_session() as session:
            await session.execute(statement, parameters)
    owners = await everything(Bill, "org_id")
    assert {owner for number, owner in owners.items() if number in {"a3", "a4"}} == {A}


@pytest.mark.parametrize("way", INSERTS)
async def test_bulk_inserts_without_a_scope_fail_closed(way: str) -> None:
    """No scope, no id: nothing is written."""
    statement, parameters = INSERTS[way]
    with pytest.raises(MissingScopeError):
        async with get_session() as session:
            await session.execute(statement, parameters)
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


FOREIGN_INSERTS: dict[str, tuple[Executable, Any]] = {
    "values": (insert(Bill).values(number="x", org_id=B), None),
    "values by column": (insert(Bill).values({Bill.number: "x", Bill.org_id: B}), None),
    "values by the table's column": (
        insert(Bill).values({BILL.c.number: "x", BILL.c.org_id: B}),
        None,
    ),
    "many values": (insert(Bill).values([{"number": "y"}, {"number": "x", "org_id": B}]), None),
    "many values by column": (
        insert(Bill).values([{Bill.number: "x", Bill.org_id: B}]),
        None,
    ),
    "parameters": (insert(Bill), [{"number": "x", "org_id": B}]),
    "one parameter": (insert(Bill), {"number": "x", "org_id": B}),
    "second of the parameters": (
        insert(Bill),
        [{"number": "y", "org_id": A}, {"number": "x", "org_id": B}],
    ),
    "an expression": (insert(Bill).values(number="x", org_id=func.gen_random_uuid()), None),
    "a literal": (insert(Bill).values(number="x", org_id=literal(B)), None),
    "a placeholder": (
        insert(Bill).values(number="x", org_id=bindparam("whose")),
        [{"whose": B}],
    ),
    "null": (insert(Bill).values(number="x", org_id=None), None),
    "text of the id": (insert(Bill).values(number="x", org_id=str(B)), None),
    "from select": (
        insert(Bill).from_select(
            ["id", "number", "org_id"], select(literal(uuid4()), literal("x"), literal(B))
        ),
        None,
    ),
    "a subclass": (insert(Reminder), [{"number": "x", "org_id": B}]),
}


@pytest.mark.parametrize("way", FOREIGN_INSERTS)
async def test_bulk_inserts_of_another_organisation_are_refused(way: str) -> None:
    """No form of INSERT writes a row for somebody else."""
    statement, parameters = FOREIGN_INSERTS[way]
    with org_scope(A), pytest.raises(ScopeError):
        async with get_session() as session:
            await session.execute(statement, parameters)
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


def upsert(**values: Any) -> Any:
    return pg_insert(Bill).values(**values)


async def test_on_conflict_changes_only_rows_of_the_scope() -> None:
    """A key that another organisation holds is left as it is."""
    with org_scope(A):
        async with get_session() as session:
            for number in ("a1", "b1"):
                row = upsert(number=number, amount=9)
                await session.execute(
                    row.on_conflict_do_update(
                        index_elements=[Bill.number], set_={"amount": row.excluded.amount}
                    )
                )
    assert await everything(Bill, "amount") == {"a1": 9, "a2": 1, "b1": 1, "b2": 1}


async def test_on_conflict_keeps_its_own_condition() -> None:
    """The caller's WHERE holds beside the scope's."""
    with org_scope(A):
        async with get_session() as session:
            for number in ("a1", "b1"):
                row = upsert(number=number, amount=9)
                await session.execute(
                    row.on_conflict_do_update(
                        index_elements=[Bill.number],
                        set_={"amount": row.excluded.amount},
                        where=Bill.amount > 5,
                    )
                )
    assert set((await everything(Bill, "amount")).values()) == {1}


async def test_on_conflict_cannot_move_a_row() -> None:
    """The SET of an upsert may not name another organisation."""
    for given in (B, func.gen_random_uuid(), upsert().excluded.client_id):
        with org_scope(A), pytest.raises(CrossOrgError):
            async with get_session() as session:
                await session.execute(
                    upsert(number="a1").on_conflict_do_update(
                        index_elements=[Bill.number], set_={"org_id": given}
                    )
                )
    assert (await everything(Bill, "org_id"))["a1"] == A


async def test_the_same_upsert_in_two_scopes_serves_each() -> None:
    """Guarding a statement does not change the statement that was given."""
    row = upsert(number="b1", amount=9)
    statement = row.on_conflict_do_update(index_elements=[Bill.number], set_={"amount": 9})
    seen = []
    for org in (A, B):
        with org_scope(org):
            async with get_session() as session:
                await session.execute(statement)
        seen.append((await everything(Bill, "amount"))["b1"])
    assert seen == [1, 9]


async def test_the_legacy_bulk_methods_are_refused() -> None:
    """They go past every hook; the message names what to use."""
    with org_scope(A):
        async with get_session() as session:
            for call in (
                lambda s: s.bulk_save_objects([Bill(number="x", org_id=B)]),
                lambda s: s.bulk_insert_mappings(Bill, [{"number": "x", "org_id": B}]),
                lambda s: s.bulk_update_mappings(Bill, [{"id": uuid4(), "amount": 0}]),
            ):
                with pytest.raises(UnscopedStatementError, match=r"insert\(Bill\)"):
                    await session.run_sync(call)
            await session.run_sync(
                lambda s: s.bulk_insert_mappings(Country, [{"id": uuid4(), "name": "c"}])
            )
            await session.run_sync(lambda s: s.bulk_save_objects([Country(name="d")]))
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]
    assert list(await everything(Country, "name")) == ["a", "b", "c", "d"]
