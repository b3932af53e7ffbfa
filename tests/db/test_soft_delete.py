# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`SoftDeleteMixin`: what is deleted is out of every query, and can come back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    ForeignKey,
    Index,
    MetaData,
    delete,
    exists,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, aliased, mapped_column, relationship, selectinload
from sqlalchemy.orm.exc import StaleDataError

from forktex_core.db import (
    NAMING_CONVENTION,
    BaseDBModel,
    Database,
    InvalidValueError,
    NotFoundError,
    Repository,
    SoftDeleteMixin,
    UniqueError,
    include_deleted,
)
from tests.conftest import Database as Server


class Base(BaseDBModel):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Folder(SoftDeleteMixin, Base):
    __tablename__ = "folder"
    name: Mapped[str]
    files: Mapped[list["File"]] = relationship(order_by="File.name", back_populates="folder")


class File(SoftDeleteMixin, Base):
    __tablename__ = "file"
    __table_args__ = (
        Index("uq_file_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )
    name: Mapped[str]
    size: Mapped[int] = mapped_column(default=1)
    folder_id: Mapped[UUID] = mapped_column(ForeignKey("folder.id"))
    folder: Mapped[Folder] = relationship(back_populates="files")


@pytest.fixture
async def db(database: Server) -> AsyncIterator[Database]:
    """One folder with the files a, b (deleted) and c."""
    async with Database(database.url) as opened:
        async with opened.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with opened.session() as session:
            folder = Folder(name="f", files=[File(name=name) for name in "abc"])
            session.add(folder)
            await session.flush()
            folder.files[1].soft_delete()
        yield opened


async def names(session: AsyncSession, statement: Any) -> list[str]:
    return list((await session.scalars(statement)).unique())


OTHER = aliased(File)
READS = {
    "entity": select(File.name).order_by(File.name),
    "alias": select(OTHER.name).order_by(OTHER.name),
    "join": select(File.name).join(Folder).order_by(File.name),
    "subquery": select(File.name).where(File.id.in_(select(OTHER.id))).order_by(File.name),
    "cte": select(select(File.name.label("n")).cte().c.n).order_by("n"),
    "union": select(File.name).union(select(File.name)).order_by("name"),
}


@pytest.mark.parametrize("way", READS)
async def test_reads_leave_deleted_rows_out(way: str, db: Database) -> None:
    """However the entity stands in a SELECT; inside `include_deleted` the rows are there."""
    async with db.session() as session:
        assert await names(session, READS[way]) == ["a", "c"]
        with include_deleted():
            assert await names(session, READS[way]) == ["a", "b", "c"]
        assert await names(session, READS[way]) == ["a", "c"]


async def test_counts_and_existence(db: Database) -> None:
    """Aggregates and EXISTS leave them out, too."""
    async with db.session() as session:
        assert await session.scalar(select(func.count()).select_from(File)) == 2
        assert await session.scalar(select(func.sum(File.size))) == 2
        found = select(Folder.name).where(
            exists().where(File.name == "b", File.folder_id == Folder.id)
        )
        assert await names(session, found) == []


async def test_relationships_leave_them_out(db: Database) -> None:
    """Lazy and eager loads of a collection, and of a parent that is deleted."""
    async with db.session() as session:
        folder = (await session.scalars(select(Folder).options(selectinload(Folder.files)))).one()
        assert [file.name for file in folder.files] == ["a", "c"]
    async with db.session() as session:
        folder = (await session.scalars(select(Folder))).one()
        lazily = await session.run_sync(lambda _: [file.name for file in folder.files])
        assert lazily == ["a", "c"]
        folder.soft_delete()
    async with db.session() as session:
        file = (await session.scalars(select(File).where(File.name == "a"))).one()
        assert await session.run_sync(lambda _: file.folder) is None


async def test_the_identity_map_does_not_show_them(db: Database) -> None:
    """`get` of an object that this very session has deleted finds nothing."""
    async with db.session() as session:
        file = await Repository[File](session).get_by(name="a")
        file.soft_delete()
        await session.flush()
        assert await session.get(File, file.id) is None
        with include_deleted():
            assert await session.get(File, file.id) is file


async def test_bulk_changes_pass_them_by(db: Database) -> None:
    """`update` and `delete` statements leave deleted rows as they are."""
    async with db.session() as session:
        await session.execute(update(File).values(size=9))
        await session.execute(delete(File).where(File.name == "c"))
        with include_deleted():
            rows = await session.execute(select(File.name, File.size).order_by(File.name))
            assert [tuple(row) for row in rows] == [("a", 9), ("b", 1)]


async def test_deleting_and_restoring(db: Database) -> None:
    """The time of deletion is the server's; `restore` brings the row back."""
    async with db.session() as session:
        files = Repository[File](session)
        file = await files.get_by(name="a")
        await files.delete(file)
        assert file.deleted_at == await session.scalar(select(func.now()))
        with pytest.raises(NotFoundError):
            await files.get(file.id)
        file.restore()
        await session.flush()
        assert await files.get(file.id) is file


async def test_removing_for_good(db: Database) -> None:
    """`session.delete` removes the row itself."""
    async with db.session() as session:
        await session.delete(await Repository[File](session).get_by(name="a"))
        with include_deleted():
            assert await Repository[File](session).count() == 2


async def test_a_partial_index_frees_the_name(db: Database) -> None:
    """With the documented index, a deleted row's name is free; a living one's is not."""
    async with db.session() as session:
        files = Repository[File](session)
        folder = await Repository[Folder](session).get_by(name="f")
        await files.create(name="b", folder_id=folder.id)
        with pytest.raises(UniqueError) as refused:
            async with session.begin_nested():
                await files.create(name="a", folder_id=folder.id)
        assert refused.value.constraint == "uq_file_name"


async def test_restoring_what_was_replaced_is_refused(db: Database) -> None:
    """A deleted row whose name is taken by now can't come back: the constraint says so."""
    async with db.session() as session:
        files = Repository[File](session)
        folder = await Repository[Folder](session).get_by(name="f")
        await files.create(name="b", folder_id=folder.id)
        with include_deleted():
            deleted = await files.get_by(File.deleted_at.is_not(None))
        with pytest.raises(UniqueError):
            async with session.begin_nested():
                await files.update(deleted, deleted_at=None)
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                deleted.restore()


async def test_the_block_ends_however_it_ends(db: Database) -> None:
    """After an exception deleted rows are hidden again; blocks nest."""
    async with db.session() as session:
        with pytest.raises(ZeroDivisionError), include_deleted():
            with include_deleted():
                assert len(await names(session, READS["entity"])) == 3
            assert len(await names(session, READS["entity"])) == 3
            raise ZeroDivisionError
        assert await names(session, READS["entity"]) == ["a", "c"]
        with pytest.raises(NotFoundError):
            await Repository[File](session).get_by(name="b")


async def test_a_block_is_its_tasks_own(db: Database) -> None:
    """What one task asks to see, another that runs meanwhile does not."""
    inside, looked = asyncio.Event(), asyncio.Event()

    async def sees_all() -> None:
        with include_deleted():
            inside.set()
            await looked.wait()

    task = asyncio.create_task(sees_all())
    await inside.wait()
    async with db.session() as session:
        assert await names(session, READS["entity"]) == ["a", "c"]
    looked.set()
    await task


async def test_deleting_what_is_not_stored_is_refused(db: Database) -> None:
    """Hiding a row that never was is an error of the flush or of the repository."""
    async with db.session() as session:
        never = File(name="z")
        with pytest.raises(InvalidValueError, match="not of this repository's session"):
            await Repository[File](session).delete(never)
        gone = await Repository[File](session).get_by(name="a")
        await session.execute(text("DELETE FROM file WHERE name = 'a'"))
        with pytest.raises(StaleDataError):
            async with session.begin_nested():
                gone.soft_delete()


async def test_inserts_are_not_touched(db: Database) -> None:
    """A bulk insert may even bring rows that are deleted already."""
    async with db.session() as session:
        folder = await Repository[Folder](session).get_by(name="f")
        await session.execute(
            insert(File), [{"name": "d", "folder_id": folder.id, "deleted_at": folder.created_at}]
        )
        assert await names(session, READS["entity"]) == ["a", "c"]
        with include_deleted():
            assert await names(session, READS["entity"]) == ["a", "b", "c", "d"]
