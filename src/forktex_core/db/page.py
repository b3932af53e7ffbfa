# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Pages of results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page[Model]:
    """One page by number: `page` counts from 1, `total` is the number of rows on all pages."""

    items: Sequence[Model]
    total: int
    page: int
    size: int

    @property
    def pages(self) -> int:
        """How many pages there are; none without rows."""
        return -(-self.total // self.size)

    @property
    def has_next(self) -> bool:
        """Whether a page follows."""
        return self.page < self.pages

    @property
    def has_previous(self) -> bool:
        """Whether a page comes before."""
        return self.page > 1

    def __iter__(self) -> Iterator[Model]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class CursorPage[Model]:
    """One page by position: `next` and `previous` are the cursors of its neighbours, or None."""

    items: Sequence[Model]
    next: str | None
    previous: str | None

    def __iter__(self) -> Iterator[Model]:
        return iter(self.items)
