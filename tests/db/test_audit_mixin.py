# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`AuditMixin` and `acting_as`: who made a row, and who changed it last."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import MetaData, String, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from forktex_core.db import (
    NAMING_CONVENTION,
    AuditMixin,
    BaseDBModel,
    Database,
    ForeignKeyError,
    InvalidValueError,
    Repository,
    acting_as,
    current_actor,
    uuid7,
)
from tests.conftest import Database as Server

ADA, BOB = uuid7(), uuid7()


class Base(BaseDBModel):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Letter(AuditMixin, Base):
    __tablename__ = "letter"
    text: Mapped[str] = mapped_column(default="")


class Account(Base):
    """Accounts with keys of another type, which AuditMixin may refer to."""

    __tablename__ = "account"
    id: Mapped[str] = mapped_column(String(8), primary_key=True)  # type: ignore[assignment]


class Order(AuditMixin, Base):
    __tablename__ = "order"
    __actor_type__ = String(8)
    __actor_fk__ = "account.id"


@pytest.fixture
async def db(database: Server) -> AsyncIterator[Database]:
    async with Database(database.url) as opened:
        async with opened.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield opened


async def write(db: Database, text: str = "a") -> UUID:
    async with db.session() as session:
        return (await Repository[Letter](session).create(text=text)).id


async def authors(db: Database, key: UUID) -> tuple[UUID | None, UUID | None]:
    async with db.session() as session:
        row = await session.get_one(Letter, key)
        return row.created_by, row.updated_by


def test_blocks_nest_and_end() -> None:
    """The innermost counts; after the block it is as before, also after an exception."""
    assert current_actor() is None
    with acting_as(ADA):
        with pytest.raises(ZeroDivisionError), acting_as(BOB):
            assert current_actor() == BOB
            raise ZeroDivisionError
        assert current_actor() == ADA
    assert current_actor() is None


async def test_tasks_each_have_their_own() -> None:
    """A task inherits who started it, and what it changes stays its own."""
    met = asyncio.Barrier(2)

    async def act(user: UUID) -> tuple[UUID, UUID]:
        inherited = current_actor()
        with acting_as(user):
            await met.wait()
            return inherited, current_actor()

    with acting_as(ADA):
        assert await asyncio.gather(act(BOB), act(ADA)) == [(ADA, BOB), (ADA, ADA)]
        assert current_actor() == ADA


async def test_the_maker_and_the_last_to_change(db: Database) -> None:
    """`created_by` stays, `updated_by` follows."""
    with acting_as(ADA):
        key = await write(db)
    assert await authors(db, key) == (ADA, ADA)
    with acting_as(BOB):
        async with db.session() as session:
            await Repository[Letter](session).update(key, text="b")
    assert await authors(db, key) == (ADA, BOB)


async def test_nobody(db: Database) -> None:
    """Without an actor both are null, and a change by nobody doesn't keep the former author."""
    with acting_as(ADA):
        key = await write(db)
    async with db.session() as session:
        await Repository[Letter](session).update(key, text="b")
    assert await authors(db, key) == (ADA, None)
    assert await authors(db, await write(db)) == (None, None)


async def test_bulk_statements_name_their_author(db: Database) -> None:
    """Bulk inserts, updates and upserts are somebody's, too."""
    with acting_as(ADA):
        async with db.session() as session:
            await session.execute(insert(Letter), [{"text": "a"}, {"text": "b"}])
    with acting_as(BOB):
        async with db.session() as session:
            await session.execute(update(Letter).where(Letter.text == "b").values(text="c"))
            a = await Repository[Letter](session).get_by(text="a")
            await Repository[Letter](session).upsert(on="id", id=a.id, text="d")
    async with db.session() as session:
        rows = await session.execute(select(Letter.created_by, Letter.updated_by))
        assert [tuple(row) for row in rows] == [(ADA, BOB), (ADA, BOB)]


async def test_the_author_is_who_acts_when_it_is_flushed(db: Database) -> None:
    """The row names who was acting when it was written, not when the object was made."""
    with acting_as(ADA):
        letter = Letter(text="a")
    with acting_as(BOB):
        async with db.session() as session:
            session.add(letter)
    assert await authors(db, letter.id) == (BOB, BOB)


async def test_keys_of_another_type(db: Database) -> None:
    """`__actor_type__` and `__actor_fk__` fit the mixin to a service's own accounts."""
    async with db.session() as session:
        await Repository[Account](session).create(id="ada")
        with acting_as("ada"):
            order = await Repository[Order](session).create()
        assert (order.created_by, order.updated_by) == ("ada", "ada")
        with pytest.raises(ForeignKeyError) as refused, acting_as("bob"):
            async with session.begin_nested():
                await Repository[Order](session).create()
        assert refused.value.constraint in {
            "fk_order_created_by_account",
            "fk_order_updated_by_account",
        }


async def test_an_author_that_is_no_key_is_refused(db: Database) -> None:
    """What can't be in the column is an error of the write that would put it there."""
    async with db.session() as session:
        with pytest.raises(InvalidValueError, match=r"Letter was given a value.*ada"):
            async with session.begin_nested():
                with acting_as("ada"):
                    await Repository[Letter](session).create()
        assert await Repository[Letter](session).count() == 0
