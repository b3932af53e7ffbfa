# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The models that the tests of repositories, filters, pages and cursors share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import MetaData, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import Text

from forktex_core.db import (
    NAMING_CONVENTION,
    BaseDBModel,
    Database,
    OrgScopedMixin,
    SoftDeleteMixin,
    VersionedMixin,
    uuid7,
)


class Base(BaseDBModel):
    """A base with tables of its own."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Person(Base):
    __tablename__ = "person"
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str | None]
    age: Mapped[int | None]
    active: Mapped[bool] = mapped_column(default=True)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)


class Note(VersionedMixin, SoftDeleteMixin, Base):
    __tablename__ = "note"
    title: Mapped[str] = mapped_column(unique=True)
    text: Mapped[str] = mapped_column(default="")


class Invoice(OrgScopedMixin, Base):
    __tablename__ = "invoice"
    number: Mapped[int] = mapped_column(unique=True)


class Seat(Base):
    __tablename__ = "seat"
    __table_args__ = (UniqueConstraint("row", "place"),)
    row: Mapped[int]
    place: Mapped[int]
    holder: Mapped[str | None] = mapped_column(index=True)
    other_id: Mapped[UUID] = mapped_column(default=uuid7)


class Other(DeclarativeBase):
    """A base that is none of ours."""

    metadata = Base.metadata


class Key(Other):
    """A table of keys and nothing else."""

    __tablename__ = "key"
    name: Mapped[str] = mapped_column(primary_key=True)


@asynccontextmanager
async def people_database(url: str) -> AsyncIterator[Database]:
    """A database with the tables."""
    async with Database(url) as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield database


def emails(found: Any) -> list[str]:
    """The e-mail addresses of the people, in order."""
    return [person.email for person in found]
