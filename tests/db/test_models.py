# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`BaseDBModel`: ids made here, times made there, and names that follow from the model."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import InvalidRequestError, MissingGreenlet
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from forktex_core.db import (
    NAMING_CONVENTION,
    BaseDBModel,
    CheckError,
    Database,
    ForeignKeyError,
    OrgScopedMixin,
    Repository,
    TimestampMixin,
    org_scope,
    uuid7,
)
from tests.conftest import Database as Server


class Base(BaseDBModel):
    """A base with tables of its own."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Author(Base):
    __tablename__ = "author"
    name: Mapped[str] = mapped_column(index=True)


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (
        UniqueConstraint("title", "edition"),
        CheckConstraint("edition > 0", name="edition_counts"),
        Index(None, "title", "edition", unique=False),
    )
    title: Mapped[str]
    edition: Mapped[int] = mapped_column(default=1)
    author_id: Mapped[UUID] = mapped_column(ForeignKey("author.id"))
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    marks: Mapped[list[Any]] = mapped_column(default=list)


class Country(Base):
    """A model with a key of its own."""

    __tablename__ = "country"
    id: Mapped[str] = mapped_column(String(2), primary_key=True)  # type: ignore[assignment]


class Tenant(Base):
    """The organisations of a service that has a table of them."""

    __tablename__ = "tenant"
    id: Mapped[int] = mapped_column(primary_key=True)  # type: ignore[assignment]


class OfTenant(OrgScopedMixin, Base):
    """A base of the service's own, which says once what `org_id` refers to."""

    __abstract__ = True
    __org_fk__ = "tenant.id"
    __org_type__ = Integer()


class Shop(OfTenant):
    __tablename__ = "shop"


@pytest.fixture
async def db(database: Server) -> AsyncIterator[Database]:
    async with Database(database.url) as opened:
        async with opened.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield opened


@pytest.fixture
def statements(db: Database) -> list[str]:
    """Every statement that is sent from now on."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(db.engine.sync_engine, "before_cursor_execute", note)
    return sent


def test_an_object_has_its_id_before_any_session() -> None:
    """The id is a UUIDv7 from the start, and objects made later sort later."""
    one, other = Author(name="a"), Author(name="b")
    assert (one.id.version, other.id.version) == (7, 7)
    assert one.id < other.id


def test_a_given_id_is_kept() -> None:
    """Who names the id decides it."""
    key = uuid7()
    assert Author(id=key, name="a").id == key


def test_a_model_may_have_a_key_of_its_own() -> None:
    """No UUID is put into a primary key that the model declares itself."""
    assert Country().id is None
    assert Country(id="FR").id == "FR"


async def test_no_round_trip_for_the_id(db: Database, statements: list[str]) -> None:
    """Parent and child, linked by an id that no query had to bring, are two INSERTs and no more."""
    author = Author(name="a")
    book = Book(title="t", author_id=author.id)
    async with db.session() as session:
        session.add_all([author, book])
        await session.flush()
        assert [statement.split()[:3] for statement in statements] == [
            ["INSERT", "INTO", "author"],
            ["INSERT", "INTO", "book"],
        ]
        assert (book.author_id, book.created_at.tzinfo is not None) == (author.id, True)
    assert len(statements) == 2


async def test_bulk_inserts_make_ids_too(db: Database, statements: list[str]) -> None:
    """`insert(Model)` with many rows gives each an id, in the order of the rows."""
    async with db.session() as session:
        await session.execute(insert(Author), [{"name": str(n)} for n in range(50)])
        assert len(statements) == 1
        ids = (
            await session.scalars(select(Author.id).order_by(Author.created_at, Author.id))
        ).all()
        names = (await session.scalars(select(Author.name).order_by(Author.id))).all()
    assert {each.version for each in ids} == {7}
    assert list(names) == [str(n) for n in range(50)]


async def test_times_are_the_databases_and_utc(db: Database) -> None:
    """`created_at` and `updated_at` are the transaction's time on the server, in UTC."""
    async with db.session() as session:
        author = await Repository[Author](session).create(name="a")
        now = await session.scalar(select(func.now()))
        assert author.created_at == author.updated_at == now
        assert author.created_at.utcoffset() == timedelta(0)
    made = author.created_at
    async with db.session() as session:
        author = await Repository[Author](session).update(author.id, name="b")
        assert author.updated_at == await session.scalar(select(func.now())) > made
        assert author.created_at == made


async def test_a_bulk_update_moves_the_time(db: Database) -> None:
    """`update(Model)` sets `updated_at`, for each row that it changes."""
    async with db.session() as session:
        made = (await Repository[Author](session).create(name="a")).updated_at
    async with db.session() as session:
        await session.execute(update(Author).values(name="b"))
        assert await session.scalar(select(Author.updated_at)) > made


async def test_reading_after_a_flush_needs_no_query(db: Database, statements: list[str]) -> None:
    """The UPDATE itself brings the new `updated_at`: reading it can't be a hidden query."""
    async with db.session() as session:
        author = await Repository[Author](session).create(name="a")
    statements.clear()
    async with db.session() as session:
        session.add(author)
        author.name = "b"
        await session.flush()
        assert author.updated_at >= author.created_at
    assert [statement.split()[0] for statement in statements] == ["UPDATE"]


async def test_a_base_without_eager_defaults_refuses_the_hidden_query(db: Database) -> None:
    """What `TimestampMixin` says to set: without it, the new `updated_at` can't be read."""

    class Own(DeclarativeBase):
        pass

    class Clock(TimestampMixin, Own):
        __tablename__ = "clock"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str]

    async with db.engine.begin() as connection:
        await connection.run_sync(Own.metadata.create_all)
    async with db.session() as session:
        clock = await Repository[Clock](session).create(id=1, label="a")
        await Repository[Clock](session).update(clock, label="b")
        with pytest.raises(MissingGreenlet):
            assert clock.updated_at


async def test_json_and_lists_map_to_jsonb(db: Database) -> None:
    """`dict[str, Any]` and `list[Any]` are jsonb, and come back as they went in."""
    facts = {"pages": 3, "parts": [1, None, {"é": True}]}
    async with db.session() as session:
        author = await Repository[Author](session).create(name="a")
        book = await Repository[Book](session).create(
            title="t", author_id=author.id, facts=facts, marks=[1, "x"]
        )
    async with db.session() as session:
        again = await session.get_one(Book, book.id)
        assert (again.facts, again.marks) == (facts, [1, "x"])
    ddl = str(CreateTable(Book.__table__).compile(db.engine.sync_engine))
    assert ddl.count("JSONB") == 2
    assert ddl.count("TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL") == 2


def test_every_constraint_has_a_name_of_its_model() -> None:
    """The names follow from table and columns: the same on every machine, so diffs are stable."""
    constraints = {str(each.name) for each in Book.__table__.constraints}
    assert constraints == {
        "pk_book",
        "uq_book_title_edition",
        "ck_book_edition_counts",
        "fk_book_author_id_author",
    }
    assert {str(each.name) for each in Book.__table__.indexes} == {"ix_book_title_edition"}
    assert {str(each.name) for each in Author.__table__.indexes} == {"ix_author_name"}


def test_a_check_without_a_name_is_refused() -> None:
    """There is nothing to name it after: SQLAlchemy says so when the class is made."""
    with pytest.raises(InvalidRequestError, match="requires that constraint is explicitly named"):

        class Nameless(Base):
            __tablename__ = "nameless"
            __table_args__ = (CheckConstraint("size > 0"),)
            size: Mapped[int]


def test_an_unknown_attribute_is_refused() -> None:
    """A misspelt keyword is an error, not a lost value."""
    with pytest.raises(TypeError, match="'nmae' is an invalid keyword argument for Author"):
        Author(nmae="a")


def test_the_representation_needs_no_database() -> None:
    """It shows the id, and never loads anything."""
    author = Author(name="a")
    assert repr(author) == f"<Author id={author.id}>"


async def test_what_the_constraints_refuse(db: Database) -> None:
    """A missing parent is `ForeignKeyError`, a broken CHECK `CheckError`; each names its own."""
    async with db.session() as session:
        author = await Repository[Author](session).create(name="a")
        books = Repository[Book](session)
        with pytest.raises(ForeignKeyError, match="is not present in table") as missing:
            async with session.begin_nested():
                await books.create(title="t", author_id=uuid7())
        assert missing.value.constraint == "fk_book_author_id_author"
        await books.create(title="t", author_id=author.id)
        with pytest.raises(ForeignKeyError, match="still referenced"):
            async with session.begin_nested():
                await Repository[Author](session).delete(author)
        with pytest.raises(CheckError) as broken:
            async with session.begin_nested():
                await books.create(title="t", author_id=author.id, edition=0)
        assert (broken.value.model, broken.value.constraint) == ("Book", "ck_book_edition_counts")
        assert await books.count() == 1


def test_the_column_of_the_organisation() -> None:
    """It is required and indexed, and of the type and with the foreign key that were said."""
    column = Shop.__table__.c.org_id
    assert (column.nullable, column.index, type(column.type)) == (False, True, Integer)
    assert [key.target_fullname for key in column.foreign_keys] == ["tenant.id"]


async def test_a_row_of_an_organisation_that_is_not_there(db: Database) -> None:
    """With `__org_fk__` the database itself refuses an organisation that nobody made."""
    async with db.session() as session:
        await Repository[Tenant](session).create(id=1)
        with org_scope(1):
            assert (await Repository[Shop](session).create()).org_id == 1
    with org_scope(2):
        async with db.session() as session:
            with pytest.raises(ForeignKeyError) as refused:
                await Repository[Shop](session).create()
            assert refused.value.constraint == "fk_shop_org_id_tenant"
            await session.rollback()
