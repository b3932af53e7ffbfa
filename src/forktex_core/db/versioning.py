# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Optimistic locking: a change of a row that someone else changed meanwhile is refused."""

from typing import Any, ClassVar

from sqlalchemy.orm import Mapped, mapped_column


class VersionedMixin:
    """`version`, counted up by every change through the ORM.

    Flushing a change of a row whose version is no longer the one that was read raises SQLAlchemy's
    `StaleDataError` (`StaleVersionError` through `Repository`). A bulk `update()` statement goes
    past the count, as it reads no row.
    """

    version: Mapped[int] = mapped_column(sort_order=104)
    __mapper_args__: ClassVar[dict[str, Any]] = {"version_id_col": version}
