# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A session serves one organisation: leaks 3 and 4, the identity map, get and refresh."""

import pytest
from sqlalchemy import (
    select,
    text,
    update,
)
from sqlalchemy.orm import (
    defer,
)

from forktex_core.db import (
    CrossOrgError,
    InvalidValueError,
    MissingScopeError,
    Repository,
    ScopeError,
    current_org,
    get_engine,
    get_session,
    org_scope,
    unscoped,
)
from tests.db.books import BILL, A, B, Bill, Client, Country, bill_id, everything, shown

pytestmark = pytest.mark.usefixtures("books")


async def test_get_of_another_organisations_row_finds_nothing() -> None:
    """An id that was guessed or kept leads nowhere."""
    mine, theirs = await bill_id("a1"), await bill_id("b1")
    with org_scope(A):
        async with get_session() as session:
            assert await session.get(Bill, theirs) is None
            found = await session.get(Bill, mine)
            assert found is not None
            assert found.number == "a1"
            assert await session.get(Bill, mine) is found


async def test_get_without_a_scope_fails_closed_also_from_the_identity_map() -> None:
    """An object that is in memory already is under the same rule as one in the table."""
    mine = await bill_id("a1")
    async with get_session() as session:
        with pytest.raises(MissingScopeError):
            await session.get(Bill, mine)
        with org_scope(A):
            kept = await session.get(Bill, mine)
            assert kept is not None
        with pytest.raises(MissingScopeError, match="Bill"):
            await session.get(Bill, mine)


async def test_a_session_refuses_another_scope() -> None:
    """What the identity map holds is one organisation's, so no other may look into it."""
    mine = await bill_id("a1")
    with org_scope(A):
        async with get_session() as session:
            assert await session.get(Bill, mine)
            with org_scope(B):
                for use in (
                    session.get(Bill, mine),
                    session.execute(select(Bill)),
                    session.execute(select(Country)),
                    session.execute(text("SELECT 1")),
                ):
                    with pytest.raises(CrossOrgError, match="open another one with get_session"):
                        await use
                with pytest.raises(CrossOrgError):
                    session.add(Bill(number="b9"))
            assert await session.get(Bill, mine), "the session still serves its own"


async def test_refresh_needs_the_scope() -> None:
    """Refreshing reads the row again: in its scope, or not at all."""
    mine = await bill_id("a1")
    with org_scope(A):
        async with get_session() as session:
            bill = await session.get_one(Bill, mine)
            async with get_engine().begin() as connection:
                await connection.execute(update(BILL).values(amount=7))
            await session.refresh(bill)
            assert bill.amount == 7
    async with get_session() as session:
        with org_scope(A):
            bill = await session.get_one(Bill, mine)
        with pytest.raises(MissingScopeError):
            await session.refresh(bill)


async def test_refresh_of_a_row_that_moved_away_fails() -> None:
    """A row that was given to another organisation meanwhile is not read again."""
    mine = await bill_id("a1")
    with org_scope(A):
        async with get_session() as session:
            bill = await session.get_one(Bill, mine)
            async with get_engine().begin() as connection:
                await connection.execute(update(BILL).values(org_id=B, amount=7))
            with pytest.raises(Exception, match="Could not refresh"):
                await session.refresh(bill)


async def test_an_object_of_another_organisation_cannot_be_attached() -> None:
    """Objects carried over from another scope's session are refused: added, merged or deleted."""
    with org_scope(B):
        async with get_session() as session:
            theirs = (await session.scalars(select(Bill))).first()
            assert theirs is not None
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(CrossOrgError, match="serves the organisation"):
                session.add(theirs)
            with pytest.raises(CrossOrgError):
                await session.delete(theirs)
            with pytest.raises(CrossOrgError):
                await session.merge(theirs)
                await session.flush()
            await session.rollback()
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


async def test_merge_of_a_foreign_id_cannot_overwrite_the_row() -> None:
    """A payload with another organisation's id neither reads nor changes its row."""
    theirs = await bill_id("b1")
    with org_scope(A), pytest.raises(Exception, match="duplicate key"):
        async with get_session() as session:
            await session.merge(Bill(id=theirs, number="stolen", amount=0))
    assert await everything(Bill, "amount") == {"a1": 1, "a2": 1, "b1": 1, "b2": 1}


async def test_a_pickled_state_without_its_organisation_is_not_trusted() -> None:
    """An object that was loaded without org_id may be anybody's."""
    with org_scope(B):
        async with get_session() as session:
            query = select(Bill).options(defer(Bill.org_id))
            theirs = (await session.scalars(query)).first()
            assert theirs is not None
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(CrossOrgError, match="not loaded with it"):
                session.add(theirs)


async def test_a_switch_of_scope_takes_a_session_each() -> None:
    """Blocks nest: the inner organisation has its own session, the outer one goes on after it."""
    with org_scope(A):
        async with get_session() as outer:
            assert shown(await outer.execute(select(Bill.number))) == ["a1", "a2"]
            with org_scope(B):
                async with get_session() as inner:
                    assert shown(await inner.execute(select(Bill.number))) == ["b1", "b2"]
            assert current_org() == A
            assert shown(await outer.execute(select(Bill.number))) == ["a1", "a2"]
    assert current_org() is None


async def test_a_session_may_learn_its_organisation() -> None:
    """Shared rows first, then the organisation that they lead to: one session, one transaction."""
    async with get_session() as session:
        assert shown(await session.execute(select(Country.name))) == ["a", "b"]
        with org_scope(A):
            session.add(Bill(number="a3"))
    assert (await everything(Bill, "org_id"))["a3"] == A


async def test_an_unscoped_session_sees_all_and_stays_so() -> None:
    """`unscoped` is for chores; its session is not handed to an organisation afterwards."""
    with unscoped():
        async with get_session() as session:
            seen = await session.execute(select(Bill.number))
            assert shown(seen) == ["a1", "a2", "b1", "b2"]
            assert shown(await session.execute(text("SELECT count(*) FROM books_bill"))) == ["4"]
            with org_scope(A), pytest.raises(CrossOrgError, match="serves all organisations"):
                await session.execute(select(Bill.number))


async def test_an_unscoped_session_needs_unscoped_at_each_use() -> None:
    """Past its block, reading fails closed again."""
    async with get_session() as session:
        with unscoped():
            await session.execute(select(Bill.number))
        with pytest.raises(MissingScopeError):
            await session.execute(select(Bill.number))


async def test_scopes_end_however_their_blocks_end() -> None:
    """An exception leaves neither an organisation nor `unscoped` in force behind it."""
    for block in (org_scope(A), unscoped()):
        with pytest.raises(ZeroDivisionError), block:
            raise ZeroDivisionError
        assert current_org() is None
        async with get_session() as session:
            with pytest.raises(MissingScopeError):
                await session.execute(select(Bill))


async def test_no_organisation_is_in_scope_for_all_of_them() -> None:
    """`current_org` is None inside `unscoped`, so what needs one organisation fails there."""
    with org_scope(A), unscoped():
        assert current_org() is None
        with pytest.raises(MissingScopeError, match="Bill"):
            async with get_session() as session:
                session.add(Bill(number="x", org_id=current_org()))
    assert "x" not in await everything()


async def test_a_filter_by_hand_takes_a_key_of_the_column() -> None:
    """`for_org` with something that is no id is an error, not an empty page."""
    with unscoped():
        async with get_session() as session:
            with pytest.raises(InvalidValueError, match="invalid UUID 'no id'"):
                await Repository[Bill](session).list(Bill.for_org("no id"))


async def test_a_filter_of_the_scope_needs_one_when_it_runs() -> None:
    """`in_scope`, kept in a statement, fails wherever no organisation is in scope."""
    kept = select(Country.name).where(Country.clients.any(Client.in_scope(Client)))
    with unscoped():
        async with get_session() as session:
            with pytest.raises(MissingScopeError, match="Client"):
                await session.execute(kept)
    with org_scope(B):
        async with get_session() as session:
            assert shown(await session.execute(kept)) == ["b"]


async def test_for_org_filters_where_no_scope_is() -> None:
    """The helper is the filter itself, to write by hand."""
    with unscoped():
        async with get_session() as session:
            rows = await session.execute(select(Bill.number).where(Bill.for_org(B)))
            assert shown(rows) == ["b1", "b2"]


def test_a_scope_of_nothing_is_refused() -> None:
    """None is no organisation: it must not turn into a filter that matches by accident."""
    with pytest.raises(ScopeError, match=r"use unscoped\(\)"), org_scope(None):
        pytest.fail("the block ran")
