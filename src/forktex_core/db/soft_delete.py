# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Rows that are hidden instead of removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from sqlalchemy import FetchedValue, func
from sqlalchemy.orm import Mapped, mapped_column

from forktex_core.db.timestamps import TIMESTAMP

_included: ContextVar[bool] = ContextVar("forktex_db_include_deleted", default=False)


@contextmanager
def include_deleted() -> Iterator[None]:
    """Inside the block, queries see soft-deleted rows too."""
    token = _included.set(True)
    try:
        yield
    finally:
        _included.reset(token)


def deleted_included() -> bool:
    """Whether the running code is inside `include_deleted`."""
    return _included.get()


class SoftDeleteMixin:
    """`deleted_at`; ORM statements leave rows that have one out, unless inside `include_deleted`.

    Deleted rows still hold their unique values. Make such an index partial
    (`postgresql_where=text("deleted_at IS NULL")`) to free them. `session.delete` removes the row
    for good; `Repository.delete` hides it.
    """

    deleted_at: Mapped[datetime | None] = mapped_column(
        TIMESTAMP,
        sort_order=105,
        server_onupdate=FetchedValue(),  # soft_delete's now() is read back by the same UPDATE
    )

    def soft_delete(self) -> None:
        """Hide the row, with the database's time, when the session is flushed."""
        self.deleted_at = func.now()

    def restore(self) -> None:
        """Show the row again."""
        self.deleted_at = None
