# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`Repository`: each operation, and how it fails."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from forktex_core.db import (
    CheckError,
    Database,
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    NotNullError,
    Repository,
    StaleVersionError,
    UniqueError,
    UnknownFieldError,
    org_scope,
    uuid7,
)
from tests.db.people import Invoice, Key, Note, Person, Seat, emails, people_database


class People(Repository[Person]):
    """A repository with a question of its own."""

    async def adults(self) -> list[Person]:
        return await self.list(age__gte=18)


@pytest.fixture
async def db(database: Any) -> AsyncIterator[Database]:
    async with people_database(database.url) as opened:
        yield opened


@pytest.fixture
async def session(db: Database) -> AsyncIterator[AsyncSession]:
    async with db.session() as opened:
        yield opened


async def test_a_subclass_has_its_model(session: AsyncSession) -> None:
    """`class People(Repository[Person])` is the repository of `Person`."""
    people = People(session)
    await people.create(email="a", age=17)
    await people.create(email="b", age=18)
    assert People.model is Person
    assert emails(await people.adults()) == ["b"]


class Emails[Model: Person](Repository[Model]):
    """A repository that is generic itself, for several models with an address."""

    async def addresses(self) -> list[str]:
        return emails(await self.list())


async def test_a_generic_subclass_takes_its_model_later(session: AsyncSession) -> None:
    """`Emails[Person]` has both its own methods and the model."""
    people = Emails[Person](session)
    await people.create(email="a")
    assert await people.addresses() == ["a"]
    with pytest.raises(TypeError, match=r"write Emails\[User\]\(session\)"):
        Emails(session)


async def test_loader_options_reach_every_read(db: Database) -> None:
    """What `options` says about loading holds in each method that reads rows."""
    async with db.session() as session:
        key = (await Repository[Person](session).create(email="a")).id
    lean: dict[str, Any] = {"options": [defer(Person.tags)]}

    async def read(number: int) -> Person:
        async with db.session() as session:
            people = Repository[Person](session)
            match number:
                case 0:
                    return await people.get(key, **lean)
                case 1:
                    return await people.get_by(email="a", **lean)
                case 2:
                    return (await people.list(**lean))[0]
                case 3:
                    return (await people.page(**lean)).items[0]
                case _:
                    return (await people.cursor_page(**lean)).items[0]

    for number in range(5):
        assert "tags" in inspect(await read(number)).unloaded, number


async def test_a_repository_needs_a_model(session: AsyncSession) -> None:
    """Without a model, or with something else, the error shows how to write it."""
    with pytest.raises(TypeError, match=r"Repository\[User\]\(session\)"):
        Repository(session)
    with pytest.raises(TypeError, match="takes a model class, not 'Person'"):
        Repository["Person"]  # type: ignore[type-var]


async def test_create_and_get(session: AsyncSession) -> None:
    """A created row has the database's values, and is found by its id."""
    people = Repository[Person](session)
    made = await people.create(email="a", name="Ada")
    assert made.created_at.tzinfo is not None
    assert await people.get(made.id) is made
    assert await people.get_or_none(uuid7()) is None


async def test_get_of_nothing(session: AsyncSession) -> None:
    """A missing row is `NotFoundError`, an id of another type `InvalidValueError`."""
    people = Repository[Person](session)
    with pytest.raises(NotFoundError, match="no Person with the id"):
        await people.get(uuid7())
    for wrong in ("abc", None, (uuid7(), 1), 5):
        with pytest.raises(InvalidValueError):
            await people.get(wrong)
        with pytest.raises(InvalidValueError, match="Person"):
            await people.get_or_none(wrong)


async def test_get_by(session: AsyncSession) -> None:
    """One row is found; none and several are errors that name the filter."""
    people = Repository[Person](session)
    await people.create_many([{"email": "a", "age": 1}, {"email": "b", "age": 1}])
    assert (await people.get_by(email="a")).email == "a"
    assert (await people.get_by(Person.email == "b", age=1)).email == "b"
    with pytest.raises(NotFoundError, match="email='c'"):
        await people.get_by(email="c")
    with pytest.raises(MultipleFoundError, match="age=1"):
        await people.get_by(age=1)


async def test_list_sorts_and_limits(session: AsyncSession) -> None:
    """Rows come in the sort's order, nulls as the greatest, and by limit and offset."""
    people = Repository[Person](session)
    await people.create_many(
        [{"email": e, "age": a} for e, a in zip("abc", (2, None, 1), strict=True)]
    )
    assert emails(await people.list()) == ["a", "b", "c"]
    assert emails(await people.list(sort="-age")) == ["b", "a", "c"]
    assert emails(await people.list(sort=("age", "-email"), limit=1, offset=1)) == ["a"]
    with pytest.raises(UnknownFieldError, match="did you mean 'age'"):
        await people.list(sort="-agee")
    with pytest.raises(InvalidValueError, match="limit is a number"):
        await people.list(limit=-1)
    with pytest.raises(InvalidValueError, match="offset is a number"):
        await people.list(offset=-1)
    with pytest.raises(InvalidValueError, match="is no condition"):
        await people.list("name")  # type: ignore[arg-type]


async def test_create_refusals(db: Database) -> None:
    """Unknown fields, doubles and missing values are errors of this module."""
    async with db.session() as session:
        people = Repository[Person](session)
        with pytest.raises(UnknownFieldError, match="did you mean 'email'"):
            await people.create(emial="a")
        await people.create(email="a")
        with pytest.raises(UniqueError) as caught:
            async with session.begin_nested():
                await people.create(email="a")
        assert caught.value.constraint == "uq_person_email"
        with pytest.raises(NotNullError):
            async with session.begin_nested():
                await people.create(name="nobody")
        assert await people.count() == 1


async def test_an_exclusion_constraint_is_a_check(db: Database) -> None:
    """EXCLUDE is refused as `CheckError`, with the constraint's name."""
    async with db.session() as session:
        seats = "ALTER TABLE seat ADD CONSTRAINT one_each EXCLUDE USING btree (holder WITH =)"
        await session.execute(text(seats))
        await Repository[Seat](session).create(row=1, place=1, holder="a")
        with pytest.raises(CheckError) as refused:
            async with session.begin_nested():
                await Repository[Seat](session).create(row=1, place=2, holder="a")
        assert refused.value.constraint == "one_each"


async def test_writes_are_sent_at_once(session: AsyncSession) -> None:
    """What was written is there for the next statement, also for one past the ORM."""
    people = Repository[Person](session)
    made = await people.create(email="a")
    counted = text("SELECT count(*) FROM person WHERE name = 'Ada'")
    await people.update(made, name="Ada")
    with session.no_autoflush:
        assert await session.scalar(counted) == 1
        await people.delete(made)
        assert await session.scalar(counted) == 0


async def test_an_upsert_comes_after_what_was_written_before(session: AsyncSession) -> None:
    """Objects that wait for their flush go first, and the session's own object is renewed."""
    people = Repository[Person](session)
    waiting = Person(email="a", name="A")
    session.add(waiting)
    with session.no_autoflush:
        again = await people.upsert(on="email", email="a", age=3)
    assert again is waiting
    assert (waiting.name, waiting.age) == ("A", 3)


async def test_an_upsert_with_nothing_to_change_answers_the_row(session: AsyncSession) -> None:
    """Only the key is given: the row is there afterwards, and comes back both times."""
    first = await Repository[Key](session).upsert(on="name", name="a")
    again = await Repository[Key](session).upsert(on="name", name="a")
    assert again is first
    assert await Repository[Key](session).count() == 1


async def test_create_many_is_all_or_none(session: AsyncSession) -> None:
    """One refused row takes all with it; otherwise rows come back in their order."""
    people = Repository[Person](session)
    with pytest.raises(UniqueError):
        async with session.begin_nested():
            await people.create_many([{"email": "a"}, {"email": "b"}, {"email": "a"}])
    assert await people.count() == 0
    given = [f"{n}@x" for n in range(300)]
    assert emails(await people.create_many({"email": e} for e in given)) == given
    assert await people.create_many([]) == []


async def test_update(session: AsyncSession) -> None:
    """A row changes by its id or itself; unknown fields and ids are refused."""
    people = Repository[Person](session)
    made = await people.create(email="a")
    assert (await people.update(made.id, name="Ada")).name == "Ada"
    assert (await people.update(made, age=3)).age == 3
    with pytest.raises(UnknownFieldError):
        await people.update(made, agee=3)
    with pytest.raises(NotFoundError):
        await people.update(uuid7(), age=3)
    with pytest.raises(InvalidValueError, match="not of this repository's session"):
        await people.update(Person(email="new"), age=3)


async def test_a_stale_version_is_refused(db: Database) -> None:
    """Of two changes of one version, the second is `StaleVersionError`."""
    async with db.session() as session:
        note = await Repository[Note](session).create(title="a")
    async with db.session() as first:
        mine = await Repository[Note](first).get(note.id)
        async with db.session() as second:
            await Repository[Note](second).update(note.id, text="theirs")
        with pytest.raises(StaleVersionError):
            await Repository[Note](first).update(mine, text="mine")
        await first.rollback()


async def test_delete(session: AsyncSession) -> None:
    """A deleted row is gone; a soft-deleted one is hidden; a second time is `NotFoundError`."""
    people, notes = Repository[Person](session), Repository[Note](session)
    person, note = await people.create(email="a"), await notes.create(title="a")
    await people.delete(person)
    await notes.delete(note.id)
    assert not await people.exists()
    assert await notes.list() == []
    for repository, key in ((people, person.id), (notes, note.id)):
        with pytest.raises(NotFoundError):
            await repository.delete(key)


async def test_exists_and_count(session: AsyncSession) -> None:
    """Both take the same filters as `list`, and refuse the same."""
    people = Repository[Person](session)
    await people.create_many([{"email": "a", "age": 1}, {"email": "b"}])
    assert await people.exists(age=1)
    assert not await people.exists(Person.age > 1)
    assert (await people.count(), await people.count(age=None)) == (2, 1)
    with pytest.raises(UnknownFieldError):
        await people.count(agee=1)
    with pytest.raises(UnknownFieldError):
        await people.exists(agee=1)


async def test_upsert_inserts_then_updates(db: Database) -> None:
    """The second upsert changes what it names, leaves the rest, and moves `updated_at`."""
    async with db.session() as session:
        first = await Repository[Person](session).upsert(on="email", email="a", name="A", age=1)
        made, key = first.updated_at, first.id
    async with db.session() as session:
        people = Repository[Person](session)
        again = await people.upsert(on="email", email="a", name="B")
        assert (again.id, again.name, again.age) == (key, "B", 1)
        assert again.updated_at > made
        seats = Repository[Seat](session)
        for holder in ("x", "y"):
            seat = await seats.upsert(on=("row", "place"), row=1, place=2, holder=holder)
        assert seat.holder == "y"
        assert await seats.count() == 1


async def test_upsert_counts_versions_and_shows_again(session: AsyncSession) -> None:
    """A change by upsert counts the version up and brings back a soft-deleted row."""
    notes = Repository[Note](session)
    note = await notes.upsert(on="title", title="a", text="1")
    assert note.version == 1
    await notes.delete(note)
    again = await notes.upsert(on="title", title="a", text="2")
    assert (again.version, again.text, again.deleted_at) == (3, "2", None)


async def test_upsert_refusals(session: AsyncSession) -> None:
    """Fields that nothing makes unique, or without a value, are refused before any SQL."""
    people = Repository[Person](session)
    with pytest.raises(InvalidValueError, match="unique are: email; id"):
        await people.upsert(on="name", name="A")
    with pytest.raises(InvalidValueError, match="needs its value"):
        await people.upsert(on="email", name="A")
    with pytest.raises(UnknownFieldError):
        await people.upsert(on="emial", email="A")


async def test_an_upsert_needs_an_index_that_is_unique(session: AsyncSession) -> None:
    """A plain index finds rows, and keeps nothing unique."""
    with pytest.raises(InvalidValueError, match=r"nothing makes holder of Seat unique.*unique are"):
        await Repository[Seat](session).upsert(on="holder", holder="a", row=1, place=1)


async def test_the_scope_holds_in_a_repository(db: Database) -> None:
    """Another organisation's row is neither counted, paged nor taken over by an upsert."""
    mine, theirs = uuid7(), uuid7()
    with org_scope(theirs):
        async with db.session() as session:
            await Repository[Invoice](session).create(number=1)
    with org_scope(mine):
        async with db.session() as session:
            invoices = Repository[Invoice](session)
            assert await invoices.count() == 0
            assert not await invoices.exists(number=1)
            assert (await invoices.cursor_page(sort="number")).items == []
            with pytest.raises(UniqueError, match="out of scope"):
                await invoices.upsert(on="number", number=1)
            made = await invoices.upsert(on="number", number=2)
            assert made.org_id == mine
