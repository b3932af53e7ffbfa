# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Filters: each operator against what Python says, and what is refused."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from forktex_core.db import InvalidValueError, Repository, UnknownFieldError, UnknownOperatorError
from tests.db.people import Person, people_database

ROWS: list[dict[str, Any]] = [
    {"email": "a", "name": "Ada", "age": 36, "active": True, "tags": ["x", "y"]},
    {"email": "b", "name": "bob%", "age": 18, "active": False, "tags": ["x"]},
    {"email": "c", "name": None, "age": None, "active": True, "tags": []},
    {"email": "d", "name": "Alan", "age": 41, "active": True, "tags": ["y"]},
]
CASES: dict[str, tuple[Any, Callable[[dict[str, Any]], bool]]] = {
    "age": (18, lambda r: r["age"] == 18),
    "age__eq": (None, lambda r: r["age"] is None),
    "age__ne": (18, lambda r: r["age"] != 18),
    "name__ne": (None, lambda r: r["name"] is not None),
    "age__lt": (36, lambda r: r["age"] is not None and r["age"] < 36),
    "age__lte": (36, lambda r: r["age"] is not None and r["age"] <= 36),
    "age__gt": (36, lambda r: r["age"] is not None and r["age"] > 36),
    "age__gte": (36, lambda r: r["age"] is not None and r["age"] >= 36),
    "active__gt": (False, lambda r: r["active"]),
    "age__in": ([18, None], lambda r: r["age"] in [18, None]),
    "email__in": ([], lambda r: False),
    "age__not_in": ([18], lambda r: r["age"] != 18),
    "name__not_in": (["Ada", None], lambda r: r["name"] not in ["Ada", None]),
    "age__between": ((18, 36), lambda r: r["age"] in {18, 36}),
    "name__like": ("A%", lambda r: (r["name"] or "").startswith("A")),
    "name__ilike": ("a%", lambda r: (r["name"] or "").startswith("A")),
    "name__contains": ("%", lambda r: "%" in (r["name"] or "")),
    "name__icontains": ("AL", lambda r: r["name"] == "Alan"),
    "name__startswith": ("A", lambda r: (r["name"] or "").startswith("A")),
    "name__istartswith": ("aL", lambda r: r["name"] == "Alan"),
    "name__endswith": ("%", lambda r: r["name"] == "bob%"),
    "name__iendswith": ("AN", lambda r: r["name"] == "Alan"),
    "tags__contains": (["x"], lambda r: "x" in r["tags"]),
    "name__is_null": (True, lambda r: r["name"] is None),
    "age__is_null": (False, lambda r: r["age"] is not None),
}


@pytest.fixture
async def people(database: Any) -> AsyncIterator[Repository[Person]]:
    async with people_database(database.url) as db, db.session() as session:
        repository = Repository[Person](session)
        await repository.create_many(ROWS)
        yield repository


async def test_every_operator_agrees_with_python(people: Repository[Person]) -> None:
    """A filter finds the rows for which the same comparison holds in Python, nulls included."""
    for key, (value, holds) in CASES.items():
        found = [person.email for person in await people.list(**{key: value})]
        assert found == [row["email"] for row in ROWS if holds(row)], key


async def test_filters_and_expressions_are_joined(people: Repository[Person]) -> None:
    """Keywords and SQLAlchemy expressions must all hold."""
    found = await people.list(Person.age > 18, Person.active, name__ilike="a%", age__lt=41)
    assert [person.email for person in found] == ["a"]


async def test_unknown_names_are_answered_with_near_ones(people: Repository[Person]) -> None:
    """A wrong field or operator names those that may have been meant."""
    with pytest.raises(UnknownFieldError, match="did you mean 'age'"):
        await people.list(agee=1)
    with pytest.raises(UnknownOperatorError, match="'gte'"):
        await people.list(age__gtee=1)
    with pytest.raises(UnknownFieldError, match="'naem'"):
        await people.list(naem__ilike="a%")


@pytest.mark.parametrize(
    "wrong",
    [
        {"age": "18"}, {"age__gt": None}, {"age__in": 5}, {"age__in": "5"}, {"age__between": [1]},
        {"age__like": "1%"}, {"age__contains": "1"}, {"name__like": 5}, {"name__contains": 5},
        {"name__is_null": "yes"}, {"age__between": [1, None]}, {"age": 2**40}, {"name": "a\0b"},
        {"id": "no uuid"}, {"created_at__gt": "yesterday"},
    ],
)  # fmt: skip
async def test_values_that_do_not_fit(people: Repository[Person], wrong: dict[str, Any]) -> None:
    """A value that the field cannot be compared with is `InvalidValueError`, never an SQL error."""
    with pytest.raises(InvalidValueError):
        await people.list(**wrong)
