# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Pages against a naive model in Python: any sort, nulls, ties, and rows inserted meanwhile."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from forktex_core.db import Database, InvalidValueError, Repository
from forktex_core.db.keyset import rows_after
from forktex_core.db.sorting import total_order
from tests.db.people import Person, emails, people_database

SORT = st.lists(
    st.sampled_from(["name", "age", "active", "email"]), unique=True, max_size=3
).flatmap(lambda names: st.tuples(*[st.sampled_from([name, f"-{name}"]) for name in names]))
ROW = st.fixed_dictionaries(
    {
        "name": st.sampled_from([None, "a", "b"]),
        "age": st.sampled_from([None, 1, 2]),
        "active": st.booleans(),
    }
)


def ordered(rows: list[Person], sort: tuple[str, ...]) -> list[str]:
    """The e-mail addresses in the order of the sort, by Python."""
    last_first = bool(sort) and sort[-1].startswith("-")
    found = sorted(rows, key=lambda row: row.id, reverse=last_first)
    for name in reversed(sort):
        field = name.removeprefix("-")

        def key(row: Person, field: str = field) -> Any:
            value = getattr(row, field)
            return (value is None, 0 if value is None else value)

        found.sort(key=key, reverse=name.startswith("-"))
    return emails(found)


class Ground:
    """One engine on one loop for all examples of a property."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self._context = people_database(url)
        self.db: Database = self.runner.run(self._context.__aenter__())

    def close(self) -> None:
        self.runner.run(self._context.__aexit__(None, None, None))
        self.runner.close()

    async def insert(self, rows: list[dict[str, Any]], prefix: str) -> list[Person]:
        """Committed by a session of its own."""
        async with self.db.session() as session:
            return await Repository[Person](session).create_many(
                {"email": f"{prefix}{n}", **row} for n, row in enumerate(rows)
            )

    async def clear(self) -> None:
        async with self.db.engine.begin() as connection:
            await connection.execute(text("TRUNCATE person"))


@pytest.fixture
def ground(database: Any) -> Iterator[Ground]:
    made = Ground(database.url)
    yield made
    made.close()


PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ROWS = st.lists(ROW, max_size=12)
SIZE = st.integers(1, 4)


# Two keys that are never null, in opposite directions: no comparison of whole rows will do.
TRUE, FALSE = ({"name": None, "age": None, "active": each} for each in (True, False))
OPPOSITE = ("active", "-email")


@PROPERTY
@example(before=[TRUE, FALSE, TRUE, FALSE], meanwhile=[], sort=OPPOSITE, size=1)
@given(before=ROWS, meanwhile=st.lists(ROWS, max_size=2), sort=SORT, size=SIZE)
def test_cursor_pages_under_inserts(
    ground: Ground, before: Any, meanwhile: Any, sort: tuple[str, ...], size: int
) -> None:
    """Rows that were there come exactly once and in order, and new ones at most once in it."""

    async def example() -> None:
        await ground.clear()
        old = await ground.insert(before, "old")
        rows, seen, cursor, waiting = list(old), [], None, list(meanwhile)
        while True:
            async with ground.db.session() as session:
                page = await Repository[Person](session).cursor_page(
                    cursor=cursor, size=size, sort=sort
                )
            assert len(page.items) == size or page.next is None
            seen += emails(page)
            assert len(seen) == len(set(seen)), "a row came twice"
            cursor = page.next
            if cursor is None:
                break
            if waiting:
                rows += await ground.insert(waiting.pop(), f"new{len(waiting)}-")
        assert [email for email in seen if email.startswith("old")] == ordered(old, sort)
        assert seen == [email for email in ordered(rows, sort) if email in set(seen)]

    ground.runner.run(example())


@PROPERTY
@given(ROWS, SORT, SIZE)
def test_cursor_pages_go_back(
    ground: Ground, given_rows: Any, sort: tuple[str, ...], size: int
) -> None:
    """From the last page, `previous` leads through the same pages to the first."""

    async def example() -> None:
        await ground.clear()
        rows = await ground.insert(given_rows, "p")
        async with ground.db.session() as session:
            people = Repository[Person](session)
            page = await people.cursor_page(size=size, sort=sort)
            pages = [emails(page)]
            while page.next:
                page = await people.cursor_page(cursor=page.next, size=size, sort=sort)
                pages.append(emails(page))
            back, turned = emails(page), 1
            while page.previous:
                page = await people.cursor_page(cursor=page.previous, size=size, sort=sort)
                back, turned = emails(page) + back, turned + 1
            assert turned == len(pages), "there is nothing before the first page"
        assert sum(pages, []) == back == ordered(rows, sort)  # noqa: RUF017 - a few short lists

    ground.runner.run(example())


@PROPERTY
@given(ROWS, SORT, SIZE, st.integers(1, 5), st.sampled_from([None, True, False]))
def test_offset_pages(
    ground: Ground,
    given_rows: Any,
    sort: tuple[str, ...],
    size: int,
    number: int,
    active: bool | None,
) -> None:
    """A page by number is that slice of the sorted rows that match, with the true total."""
    filters: dict[str, Any] = {} if active is None else {"active": active}

    async def example() -> None:
        await ground.clear()
        rows = await ground.insert(given_rows, "p")
        async with ground.db.session() as session:
            people = Repository[Person](session)
            page = await people.page(page=number, size=size, sort=sort, **filters)
        wanted = ordered([row for row in rows if active in {None, row.active}], sort)
        assert emails(page) == wanted[(number - 1) * size : number * size]
        assert page.total == len(wanted)
        assert page.has_next == (number * size < len(wanted))
        assert page.has_previous == (number > 1)
        assert page.pages == len(range(0, len(wanted), size))

    ground.runner.run(example())


@pytest.mark.parametrize(
    ("sort", "one_comparison"),
    [
        (("email",), "(person.email, person.id) > "),
        (("-active", "-email"), "(person.active, person.email, person.id) < "),
        (("active", "-email"), None),
        (("name", "age"), None),
    ],
)
def test_rows_are_compared_whole_where_they_can_be(
    sort: tuple[str, ...], one_comparison: str | None
) -> None:
    """Keys that go one way and are never null are one comparison, which an index answers."""
    keys = total_order(Person, sort)
    condition = str(rows_after(keys, ["x"] * len(keys)).compile(dialect=postgresql.dialect()))
    assert condition.startswith(one_comparison or "person.")
    assert (" OR " in condition) == (one_comparison is None)


def test_pages_that_cannot_be(ground: Ground) -> None:
    """Sizes and numbers out of range, and a sort that no cursor can hold, are refused."""

    async def example() -> None:
        async with ground.db.session() as session:
            people = Repository[Person](session)
            for size in (0, -1, 1001, True, "5"):
                with pytest.raises(InvalidValueError, match="size is a number from 1 to 1000"):
                    await people.page(size=size)  # type: ignore[arg-type]
                with pytest.raises(InvalidValueError, match="size is a number from 1 to 1000"):
                    await people.cursor_page(size=size)  # type: ignore[arg-type]
            for number in (0, 2**63):
                with pytest.raises(InvalidValueError, match="page is a number"):
                    await people.page(page=number)
            with pytest.raises(InvalidValueError, match="pages cannot be sorted by"):
                await people.cursor_page(sort="tags")

    ground.runner.run(example())


def test_a_row_the_session_knows_by_older_values(ground: Ground) -> None:
    """The cursor is made of the row as the database has it, not of the session's older object."""

    async def example() -> None:
        first, second, third = await ground.insert([{"age": 1}, {"age": 2}, {"age": 6}], "p")
        async with ground.db.session() as session:
            people = Repository[Person](session)
            known = await people.get(second.id)  # kept: the session's map is weak
            async with ground.db.session() as other:
                await Repository[Person](other).update(second.id, age=5)
            page = await people.cursor_page(size=2, sort="age")
            rest = await people.cursor_page(cursor=page.next, size=2, sort="age")
        assert (emails(page), emails(rest)) == (["p0", "p1"], ["p2"])
        assert [first.email, third.email, known.age] == ["p0", "p2", 2]

    ground.runner.run(example())
