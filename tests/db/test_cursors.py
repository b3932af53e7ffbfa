# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Cursors: damage, forgery and use for another query end in `CursorError`, nothing else."""

import asyncio
import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktex_core.db import CursorError, Database, Repository, org_scope, uuid7
from tests.db.people import Invoice, Person, people_database

QUERY: dict[str, Any] = {"size": 1, "sort": ("name", "-age", "active", "created_at")}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=6,
)
PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Ground:
    """One engine, and a cursor of `QUERY`."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self._context = people_database(url)
        self.db: Database = self.runner.run(self._context.__aenter__())
        self.cursor = self.runner.run(self._first())

    async def _first(self) -> str:
        async with self.db.session() as session:
            people = Repository[Person](session)
            await people.create_many([{"email": "a", "name": "x"}, {"email": "b", "age": 1}])
            cursor = (await people.cursor_page(**QUERY)).next
            assert cursor is not None
            return cursor

    def follow(self, cursor: Any, **query: Any) -> list[Person]:
        async def ask() -> list[Person]:
            async with self.db.session() as session:
                page = await Repository[Person](session).cursor_page(cursor=cursor, **QUERY | query)
                return list(page.items)

        return self.runner.run(ask())

    def refused(self, cursor: Any, **query: Any) -> bool:
        try:
            self.follow(cursor, **query)
        except CursorError:
            return True
        return False

    def close(self) -> None:
        self.runner.run(self._context.__aexit__(None, None, None))
        self.runner.close()


@pytest.fixture
def ground(database: Any) -> Any:
    made = Ground(database.url)
    yield made
    made.close()


def test_an_untouched_cursor_is_followed(ground: Ground) -> None:
    """The cursor leads on, also with another page size."""
    assert [person.email for person in ground.follow(ground.cursor)] == ["b"]
    assert [person.email for person in ground.follow(ground.cursor, size=9)] == ["b"]


@PROPERTY
@given(st.data())
def test_damage_at_any_place(ground: Ground, data: st.DataObject) -> None:
    """A cursor with any one byte changed, cut or added is refused with `CursorError`."""
    sealed = base64.urlsafe_b64decode(ground.cursor + "=" * (-len(ground.cursor) % 4))
    place = data.draw(st.integers(0, len(sealed) - 1))
    put = data.draw(st.binary(max_size=2).filter(lambda b: b != sealed[place : place + 1]))
    damaged = sealed[:place] + put + sealed[place + 1 :]
    text = base64.urlsafe_b64encode(damaged).rstrip(b"=").decode()
    assert text == ground.cursor or ground.refused(text)


@PROPERTY
@given(st.text() | st.binary() | st.integers())
def test_anything_but_a_cursor(ground: Ground, given_cursor: Any) -> None:
    """Text, bytes and numbers that are no cursor are refused with `CursorError`."""
    assert ground.refused(given_cursor)


@PROPERTY
@given(st.lists(JSON | st.sampled_from(["NaN", "a\0", "\ud800", "9999-12-31T23:59:59-23:00"]),
                min_size=5, max_size=5), st.booleans())  # fmt: skip
def test_forged_values(ground: Ground, values: list[Any], backward: bool) -> None:
    """Without a key a client can seal other values: they are a page or `CursorError`, no more."""
    payload = base64.urlsafe_b64decode(ground.cursor + "=" * (-len(ground.cursor) % 4))[12:]
    forged = json.dumps([json.loads(payload)[0], backward, values]).encode()
    sealed = hmac.digest(b"", forged, "sha256")[:12] + forged
    assert ground.refused(base64.urlsafe_b64encode(sealed).decode().rstrip("=")) in {True, False}


@pytest.mark.parametrize(
    "other",
    [
        {"sort": "name"},
        {"sort": ("name", "age", "active", "created_at")},
        {"age": 1},
        {"age__gt": 0},
    ],
)
def test_a_cursor_of_another_query(ground: Ground, other: dict[str, Any]) -> None:
    """Another sort, direction or filter refuses the cursor and says so."""
    with pytest.raises(CursorError, match="another sort, other filters or another organisation"):
        ground.follow(ground.cursor, **other)


def test_filter_values_are_part_of_the_query(ground: Ground) -> None:
    """The same filter with another value is another query; the same filters reordered are not."""

    async def example() -> None:
        async with ground.db.session() as session:
            people = Repository[Person](session)
            page = await people.cursor_page(size=1, active=True, email__in=["a", "b"])
            again = await people.cursor_page(
                cursor=page.next, size=1, email__in=["a", "b"], active=True
            )
            assert [person.email for person in again] == ["b"]
            with pytest.raises(CursorError):
                await people.cursor_page(cursor=page.next, active=True, email__in=["a", "c"])

    ground.runner.run(example())


def test_a_key_of_the_service(ground: Ground) -> None:
    """A cursor sealed with one key is refused under another."""

    async def example() -> None:
        async with ground.db.session() as session:
            cursor = (await Repository[Person](session, cursor_key=b"k").cursor_page(**QUERY)).next
            with pytest.raises(CursorError, match="damaged"):
                await Repository[Person](session).cursor_page(cursor=cursor, **QUERY)

    ground.runner.run(example())


def test_a_cursor_of_another_organisation(ground: Ground) -> None:
    """A cursor made in one organisation's scope is refused in another's."""

    async def page(org: Any, cursor: str | None) -> str | None:
        with org_scope(org):
            async with ground.db.session() as session:
                invoices = Repository[Invoice](session)
                return (await invoices.cursor_page(cursor=cursor, size=1)).next

    async def example() -> None:
        mine, theirs = uuid7(), uuid7()
        with org_scope(theirs):
            async with ground.db.session() as session:
                await Repository[Invoice](session).create_many([{"number": 1}, {"number": 2}])
        cursor = await page(theirs, None)
        assert await page(theirs, cursor) is None
        with pytest.raises(CursorError, match="another organisation"):
            await page(mine, cursor)

    ground.runner.run(example())
