# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`VersionedMixin`: of two changes of what was read, one wins and the other hears of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import MetaData, update
from sqlalchemy.orm import Mapped
from sqlalchemy.orm.exc import StaleDataError

from forktex_core.db import (
    NAMING_CONVENTION,
    BaseDBModel,
    Database,
    Repository,
    StaleVersionError,
    VersionedMixin,
)
from tests.conftest import Database as Server


class Base(BaseDBModel):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Page(VersionedMixin, Base):
    __tablename__ = "page"
    text: Mapped[str]


class Picture(Page):
    """A model below a versioned one, in the same table."""

    caption: Mapped[str | None]


@pytest.fixture
async def db(database: Server) -> AsyncIterator[Database]:
    async with Database(database.url) as opened:
        async with opened.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield opened


@pytest.fixture
async def page(db: Database) -> Page:
    async with db.session() as session:
        return await Repository[Page](session).create(text="first")


async def test_each_change_counts_and_nothing_else_does(db: Database, page: Page) -> None:
    """The version starts at 1, goes up with each flush of a change, and stays without one."""
    assert page.version == 1
    async with db.session() as session:
        pages = Repository[Page](session)
        assert (await pages.update(page.id, text="second")).version == 2
        assert (await pages.update(page.id, text="second")).version == 2
        assert (await pages.update(page.id, text="third")).version == 3


async def test_of_two_changes_the_second_is_refused(db: Database, page: Page) -> None:
    """The session itself raises SQLAlchemy's error; what the first wrote stays."""
    async with db.session() as first, db.session() as second:
        mine, theirs = await first.get_one(Page, page.id), await second.get_one(Page, page.id)
        theirs.text = "theirs"
        await second.commit()
        mine.text = "mine"
        with pytest.raises(StaleDataError):
            await first.flush()
        await first.rollback()
    async with db.session() as session:
        again = await session.get_one(Page, page.id)
        assert (again.text, again.version) == ("theirs", 2)


async def test_a_deletion_of_something_older_is_refused(db: Database, page: Page) -> None:
    """Deleting counts as a change: what was changed meanwhile is not deleted unseen."""
    async with db.session() as first, db.session() as second:
        mine = await Repository[Page](first).get(page.id)
        await Repository[Page](second).update(page.id, text="theirs")
        await second.commit()
        with pytest.raises(StaleVersionError, match="the Page was changed or removed"):
            await Repository[Page](first).delete(mine)
        await first.rollback()
    async with db.session() as session:
        assert await Repository[Page](session).count() == 1


async def test_a_row_that_is_gone_is_refused(db: Database, page: Page) -> None:
    """A change of a row that somebody removed is the same error."""
    async with db.session() as first, db.session() as second:
        mine = await Repository[Page](first).get(page.id)
        await Repository[Page](second).delete(page.id)
        await second.commit()
        with pytest.raises(StaleVersionError):
            await Repository[Page](first).update(mine, text="mine")
        await first.rollback()


async def test_no_change_is_lost_among_many(db: Database, page: Page) -> None:
    """Twenty writers who repeat what was refused: each of their letters is there at the end."""

    async def append(letter: str) -> None:
        while True:
            try:
                async with db.session() as session:
                    row = await Repository[Page](session).get(page.id)
                    await Repository[Page](session).update(row, text=row.text + letter)
                return
            except StaleVersionError:
                continue

    letters = "abcdefghijklmnopqrst"
    await asyncio.gather(*map(append, letters))
    async with db.session() as session:
        last = await session.get_one(Page, page.id)
    assert sorted(last.text.removeprefix("first")) == list(letters)
    assert last.version == 1 + len(letters)


async def test_a_bulk_update_goes_past_the_count(db: Database, page: Page) -> None:
    """A statement reads no row, so it compares no version: as the documentation says."""
    async with db.session() as session:
        await session.execute(update(Page).values(text="all"))
        assert (await Repository[Page](session).get(page.id)).version == 1
    async with db.session() as session:
        await session.execute(update(Page).values(text="all", version=Page.version + 1))
        assert (await Repository[Page](session).get(page.id)).version == 2


async def test_models_below_share_the_count(db: Database) -> None:
    """A subclass shares its parent's version; reading what the UPDATE set needs no query."""
    async with db.session() as session:
        picture = await Repository[Picture](session).create(text="t", caption="c")
        changed = await Repository[Picture](session).update(picture, caption="d")
        assert (picture.version, changed) == (2, picture)
    assert picture.updated_at >= picture.created_at  # the session is closed: no query could be made
