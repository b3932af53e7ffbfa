# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The mixins beside each other: whatever order Python allows, each keeps its promise."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import combinations, permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, String, Uuid, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from forktex_core.db import (
    NAMING_CONVENTION,
    AuditMixin,
    BaseDBModel,
    Database,
    NotFoundError,
    OrgScopedMixin,
    Repository,
    SoftDeleteMixin,
    StaleVersionError,
    TimestampMixin,
    VersionedMixin,
    acting_as,
    include_deleted,
    org_scope,
    uuid7,
)
from tests.conftest import Database as Server

MIXINS = (TimestampMixin, AuditMixin, OrgScopedMixin, SoftDeleteMixin, VersionedMixin)
PLACES = ("first", "between", "last")
ADA, BOB, MINE, THEIRS = uuid7(), uuid7(), uuid7(), uuid7()


class Base(BaseDBModel):
    """The base of the models of this file."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Plain(DeclarativeBase):
    """A base that is none of ours."""

    metadata = MetaData()


def model_of(bases: tuple[type, ...], base: type, prefix: str = "m") -> Any:
    """A model with these bases, in this order."""
    name = "_".join([prefix, *(each.__name__.removesuffix("Mixin") for each in bases)])
    space: dict[str, Any] = {
        "__module__": __name__,
        "__tablename__": name.lower(),
        "label": mapped_column(String, nullable=False),
    }
    if base is Plain:
        space["id"] = mapped_column(Uuid, primary_key=True, default=uuid7)
        if VersionedMixin not in bases:
            space["__mapper_args__"] = {"eager_defaults": True}
    return type(name, bases, space)


def placed(mixins: tuple[type, ...], place: str) -> tuple[type, ...]:
    """The mixins with the base in one of its places among them."""
    at = {"first": 0, "between": len(mixins) // 2, "last": len(mixins)}[place]
    return (*mixins[:at], Base, *mixins[at:])


@pytest.fixture
async def db(database: Server) -> AsyncIterator[Database]:
    async with Database(database.url) as opened:
        yield opened


async def create_table(db: Database, model: Any) -> None:
    async with db.engine.begin() as connection:
        await connection.run_sync(model.__table__.create)


@contextmanager
def acting(user: UUID, org: UUID = MINE) -> Iterator[None]:
    """Inside, this user works for this organisation."""
    with acting_as(user), org_scope(org):
        yield


async def created(db: Database, model: Any, **values: Any) -> Any:
    with acting(ADA):
        async with db.session() as session:
            return await Repository[model](session).create(label="a", **values)  # type: ignore[valid-type]


async def changed(db: Database, model: Any, key: Any) -> Any:
    with acting(BOB):
        async with db.session() as session:
            return await Repository[model](session).update(key, label="b")  # type: ignore[valid-type]


async def keeps_time(db: Database, model: Any) -> None:
    row = await created(db, model)
    again = await changed(db, model, row.id)
    assert again.created_at == row.created_at < again.updated_at


async def knows_its_authors(db: Database, model: Any) -> None:
    row = await created(db, model)
    assert (row.created_by, row.updated_by) == (ADA, ADA)
    again = await changed(db, model, row.id)
    assert (again.created_by, again.updated_by) == (ADA, BOB)


async def keeps_to_its_organisation(db: Database, model: Any) -> None:
    row = await created(db, model)
    assert row.org_id == MINE
    with acting(ADA, THEIRS):
        async with db.session() as session:
            assert await session.get(model, row.id) is None
            assert (await session.scalars(select(model))).all() == []


async def is_hidden_when_deleted(db: Database, model: Any) -> None:
    row = await created(db, model)
    with acting(BOB):
        async with db.session() as session:
            rows = Repository[model](session)  # type: ignore[valid-type]
            await rows.delete(row.id)
            assert not await rows.exists(id=row.id)
            with pytest.raises(NotFoundError):
                await rows.get(row.id)
            with include_deleted():
                assert (await rows.get(row.id)).deleted_at is not None


async def refuses_stale_changes(db: Database, model: Any) -> None:
    row = await created(db, model)
    assert row.version == 1
    with acting(ADA):
        async with db.session() as session:
            rows = Repository[model](session)  # type: ignore[valid-type]
            mine = await rows.get(row.id)
            assert (await changed(db, model, row.id)).version == 2
            with pytest.raises(StaleVersionError):
                await rows.update(mine, label="c")
            await session.rollback()


PROMISES = {
    TimestampMixin: keeps_time,
    AuditMixin: knows_its_authors,
    OrgScopedMixin: keeps_to_its_organisation,
    SoftDeleteMixin: is_hidden_when_deleted,
    VersionedMixin: refuses_stale_changes,
}


@pytest.mark.parametrize(
    "mixins",
    [*((mixin,) for mixin in MIXINS), *combinations(MIXINS, 2)],
    ids=lambda mixins: "-".join(each.__name__ for each in mixins),
)
async def test_pairs_keep_both_promises(mixins: tuple[type, ...], db: Database) -> None:
    """Each alone, and two in either order, the base before, between or behind them."""
    orders = {placed(order, place) for order in permutations(mixins) for place in PLACES}
    assert len(orders) == (2 if len(mixins) == 1 else 6)
    for order in orders:
        model = model_of(order, Base)
        await create_table(db, model)
        await keeps_time(db, model)  # the base promises that by itself
        for mixin in mixins:
            await PROMISES[mixin](db, model)


@pytest.mark.parametrize("turn", range(len(MIXINS) + 1))
async def test_all_of_them_together(turn: int, db: Database) -> None:
    """All five, and the base in each place among them."""
    turned = (*MIXINS[turn:], *MIXINS[:turn])
    model = model_of((*turned[:turn], Base, *turned[turn:]), Base, f"turn{turn}")
    await create_table(db, model)
    for keeps_its_promise in PROMISES.values():
        await keeps_its_promise(db, model)


@settings(max_examples=100)
@given(order=st.permutations([*MIXINS, Base]), number=st.uuids())
def test_the_table_is_the_same_in_every_order(order: list[type], number: UUID) -> None:
    """Columns come in one order, whatever that of the bases: migrations don't jump about."""
    model = model_of(tuple(order), Base, f"o{number.hex}")
    assert [column.name for column in model.__table__.columns] == [
        "id",
        "org_id",
        "label",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "version",
        "deleted_at",
    ]
    mapper = inspect(model)
    assert mapper.version_id_col is model.__table__.c.version
    assert mapper.eager_defaults is True
    Base.metadata.remove(model.__table__)


async def test_on_a_base_of_the_services_own(db: Database) -> None:
    """The mixins need no `BaseDBModel`: any declarative base will do."""
    for mixin, keeps_its_promise in PROMISES.items():
        model = model_of((mixin, Plain), Plain)
        await create_table(db, model)
        await keeps_its_promise(db, model)


def test_the_models_own_mapper_arguments_win() -> None:
    """What the model says about its mapper is joined with what the mixins say."""

    class Counted(VersionedMixin, Base):
        __tablename__ = "counted"
        __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012 - read by SQLAlchemy
        label: Mapped[str]

    assert inspect(Counted).eager_defaults is False
    assert inspect(Counted).version_id_col is Counted.__table__.c.version


def test_an_order_that_python_refuses() -> None:
    """A base before its own subclass is Python's error, which names both."""
    with pytest.raises(TypeError, match="method resolution"):
        model_of((BaseDBModel, Base), Base)
