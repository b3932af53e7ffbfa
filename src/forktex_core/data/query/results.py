# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What queries answer with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

CountMode = Literal["none", "capped", "estimated", "exact"]


@dataclass(frozen=True)
class Count:
    """How many rows there are: exactly, at least (a count that reached its cap), or about."""

    value: int
    precision: Literal["exact", "at_least", "estimate"]


@dataclass(frozen=True)
class _Rows[RowT]:
    rows: Sequence[RowT]
    seconds: float = field(default=0.0, kw_only=True)
    warnings: tuple[str, ...] = field(default=(), kw_only=True)

    def __iter__(self) -> Iterator[RowT]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class RowResult[RowT](_Rows[RowT]):
    """Rows, and how long the source took in `seconds`."""


@dataclass(frozen=True)
class PageResult[RowT](_Rows[RowT]):
    """One numbered page of `size` rows, counted from 1; `total` as the query's count mode says."""

    number: int = 1
    size: int = 50
    has_more: bool = False
    total: Count | None = None


@dataclass(frozen=True)
class ScrollResult[RowT](_Rows[RowT]):
    """Rows behind a cursor; `cursor` goes on behind the last of them, None at the end."""

    cursor: str | None = None
    has_more: bool = False
    total: Count | None = None


@dataclass(frozen=True)
class FacetValue:
    """A value of a facet and how many rows have it."""

    value: Any
    count: int


@dataclass(frozen=True)
class FacetResult:
    """How the rows divide by some fields; `fields` has the values of each, the most frequent first.

    `truncated` names the fields that have more values than were asked for.
    """

    fields: Mapping[str, Sequence[FacetValue]]
    truncated: frozenset[str] = frozenset()
    seconds: float = 0.0


@dataclass(frozen=True)
class GroupResult:
    """Groups: the values of the fields that they are made by, and what was aggregated."""

    groups: Sequence[Mapping[str, Any]]
    seconds: float = 0.0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)
