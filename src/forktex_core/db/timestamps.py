# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""When a row was made and last changed, by the database's clock."""

from datetime import datetime

from sqlalchemy import DateTime, func
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column

TIMESTAMP = DateTime(timezone=True)


def created_column() -> MappedColumn[datetime]:
    """A `created_at` that the database fills."""
    return mapped_column(TIMESTAMP, server_default=func.now(), sort_order=100)


def updated_column() -> MappedColumn[datetime]:
    """An `updated_at` that every UPDATE sets to the database's time."""
    return mapped_column(TIMESTAMP, server_default=func.now(), onupdate=func.now(), sort_order=101)


class TimestampMixin:
    """`created_at` and `updated_at`, in UTC; `BaseDBModel` has them already.

    The time is `now()` of PostgreSQL, the start of the transaction: all rows of one transaction
    carry the same one. Every UPDATE through SQLAlchemy moves `updated_at`; one that was typed into
    psql does not (write a trigger if that must count too).

    On a declarative base of your own set `__mapper_args__ = {"eager_defaults": True}`, which
    `BaseDBModel` has: otherwise the new `updated_at` is fetched when it is read, which an async
    session refuses.
    """

    created_at: Mapped[datetime] = created_column()
    updated_at: Mapped[datetime] = updated_column()
