# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Who made and who last changed a row."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ForeignKey, Uuid
from sqlalchemy.orm import Mapped, MappedColumn, declared_attr, mapped_column
from sqlalchemy.types import TypeEngine

_actor: ContextVar[Any] = ContextVar("forktex_db_actor", default=None)


@contextmanager
def acting_as(user_id: Any) -> Iterator[None]:
    """Rows written inside the block carry `user_id` as their author (see `AuditMixin`).

    Blocks nest; each task has its own, inherited from the task that started it.
    """
    token = _actor.set(user_id)
    try:
        yield
    finally:
        _actor.reset(token)


def current_actor() -> Any:
    """The innermost `acting_as` user's id, or None."""
    return _actor.get()


class AuditMixin:
    """`created_by` and `updated_by`, filled from `acting_as`; null when nobody is acting.

    A change that nobody is named for sets `updated_by` to null: it says who made the *last* change,
    and a former author did not. The columns are UUIDs without a foreign key; a model or a base of
    your own sets `__actor_type__` and `__actor_fk__` for other keys.
    """

    __actor_type__: ClassVar[TypeEngine[Any]] = Uuid()
    __actor_fk__: ClassVar[str | None] = None

    @declared_attr
    @classmethod
    def created_by(cls) -> Mapped[UUID | None]:
        """The user who made the row."""
        return _actor_column(cls, 102)

    @declared_attr
    @classmethod
    def updated_by(cls) -> Mapped[UUID | None]:
        """The user who changed the row last."""
        return _actor_column(cls, 103, onupdate=current_actor)


def _actor_column(cls: Any, position: int, **options: Any) -> MappedColumn[UUID | None]:
    target = (ForeignKey(cls.__actor_fk__),) if cls.__actor_fk__ else ()
    return mapped_column(
        cls.__actor_type__,
        *target,
        nullable=True,
        default=current_actor,
        sort_order=position,
        **options,
    )
