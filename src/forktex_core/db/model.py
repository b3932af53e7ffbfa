# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`BaseDBModel`: the declarative base of a service's tables."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from forktex_core.db.timestamps import created_column, updated_column
from forktex_core.db.uuid7 import uuid7

# Every constraint has a name that follows from its table and columns: what Alembic compares and
# drops by name stays the same on every machine. A CHECK has no columns to be named after: name it.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_MADE_HERE = "forktex_uuid7"


class BaseDBModel(DeclarativeBase):
    """Base of all models: a UUIDv7 `id` and the database's `created_at` and `updated_at`.

    The `id` is there as soon as the object is made, before any flush. Timestamps are UTC and come
    from the database's clock (the start of the transaction). `datetime` maps to `timestamptz`,
    `dict[str, Any]` and `list[Any]` to `jsonb`. Mixins may stand before or after it, in any order;
    their `__mapper_args__` and the model's own are merged, the model's winning.
    """

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012 - the attribute that SQLAlchemy reads
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
    }
    # Without it, reading updated_at after a flush would need a query that an async attribute
    # access cannot make: the UPDATE returns the new value instead.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - read by SQLAlchemy

    id: Mapped[UUID] = mapped_column(
        primary_key=True, default=uuid7, sort_order=-100, info={_MADE_HERE: True}
    )
    created_at: Mapped[datetime] = created_column()
    updated_at: Mapped[datetime] = updated_column()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        cls.__mapper_args__ = _merged_mapper_args(cls)
        super().__init_subclass__(**kwargs)

    def __init__(self, **values: Any) -> None:
        if "id" not in values and _makes_ids(type(self)):
            values["id"] = uuid7()
        self.registry.constructor(self, **values)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} id={self.__dict__.get('id', 'not loaded')}>"


def _makes_ids(model: type[BaseDBModel]) -> bool:
    column = model.__mapper__.base_mapper.local_table.c.get("id")
    return column is not None and _MADE_HERE in column.info


def _merged_mapper_args(cls: type[BaseDBModel]) -> dict[str, Any]:
    """SQLAlchemy takes the first `__mapper_args__` of the bases; mixins need all of them.

    Below a mapped class, only the class's own count: version and discriminator columns belong to
    the mapper at the root, and inherit by themselves.
    """
    below_mapped = any("__mapper__" in base.__dict__ for base in cls.__mro__[1:])
    sources = [cls] if below_mapped else list(reversed(cls.__mro__))
    merged: dict[str, Any] = {}
    for source in sources:
        given = source.__dict__.get("__mapper_args__", {})
        merged |= given.fget(cls) if isinstance(given, declared_attr) else given
    return merged
