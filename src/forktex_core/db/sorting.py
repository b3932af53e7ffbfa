# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Sorts written as field names: `"-created_at", "name"`.

Nulls count as the greatest value, as PostgreSQL has it: last when ascending, first when descending.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import UnaryExpression, inspect
from sqlalchemy.orm import InstrumentedAttribute

from forktex_core.db.fields import field


@dataclass(frozen=True)
class SortKey:
    """One field of a sort."""

    attribute: InstrumentedAttribute[Any]
    descending: bool

    @property
    def name(self) -> str:
        """The field's name."""
        return self.attribute.key

    @property
    def nullable(self) -> bool:
        """Whether the field may be null."""
        return getattr(self.attribute.property.columns[0], "nullable", True)

    @property
    def order(self) -> UnaryExpression[Any]:
        """The term of ORDER BY."""
        return self.attribute.desc() if self.descending else self.attribute.asc()

    def reversed(self) -> "SortKey":
        """The same field in the other direction."""
        return replace(self, descending=not self.descending)

    def __str__(self) -> str:
        return f"-{self.name}" if self.descending else self.name


def total_order(model: type[Any], sort: str | Sequence[str]) -> tuple[SortKey, ...]:
    """The keys of `sort`, and those of the primary key behind them, so that no two rows tie.

    The primary key takes the direction of the last field: an index on both can then be read either
    way. Raises `UnknownFieldError`.
    """
    names = [sort] if isinstance(sort, str) else list(sort)
    keys = [SortKey(field(model, name.removeprefix("-")), name.startswith("-")) for name in names]
    mapper = inspect(model)
    descending = keys[-1].descending if keys else False
    for column in mapper.primary_key:
        name = mapper.get_property_by_column(column).key
        if name not in [key.name for key in keys]:
            keys.append(SortKey(getattr(model, name), descending))
    return tuple(keys)
