# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The meaning of a bound filter, in Python: what every source must agree with.

It is what in-memory sources run, what a virtual register does itself when its API cannot, and what
the property tests compare the SQL compiler with.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from forktex_core.data.definition import FieldDefinition
from forktex_core.data.query.bound import (
    Bound,
    BoundAll,
    BoundNot,
    BoundSome,
    Compare,
    Related,
    is_text,
)
from forktex_core.data.types.field_type import fold

_EARTH_KM = 6_371.0088


@dataclass(frozen=True)
class Stored:
    """A row as it lies in a source: its payload by field number, and what every row has."""

    id: UUID
    payload: Mapping[str, Any]
    revision: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created_by: str | None = None
    updated_by: str | None = None
    archived_at: datetime | None = None


Follow = Callable[[str, str], Stored | None]


def stored_value(found: FieldDefinition, row: Stored) -> Any:
    """The stored value of a field in a row, or None."""
    if found.number == 0:
        value = getattr(row, found.name)
        return None if value is None else found.type.coerce(value)
    return row.payload.get(str(found.number))


def key_value(found: FieldDefinition, row: Stored) -> Any:
    """The key of a field in a row, or None."""
    value = stored_value(found, row)
    return None if value is None else found.type.key(value)


def holds(bound: Bound, row: Stored, follow: Follow) -> bool:
    """Whether the row is one that the filter selects; `follow` finds the row of a reference."""
    if isinstance(bound, BoundAll):
        return all(holds(each, row, follow) for each in bound.parts)
    if isinstance(bound, BoundSome):
        return any(holds(each, row, follow) for each in bound.parts)
    if isinstance(bound, BoundNot):
        return not holds(bound.part, row, follow)
    if isinstance(bound, Related):
        target = stored_value(bound.field, row)
        other = follow(bound.target.name, target) if target is not None else None
        return other is not None and other.archived_at is None and holds(bound.part, other, follow)
    return _compares(bound, row)


def _compares(bound: Compare, row: Stored) -> bool:
    stored = stored_value(bound.field, row)
    if bound.operator == "is_null":
        return stored is None
    if stored is None:
        return False
    if bound.operator in _ON_STORED:
        return bool(_ON_STORED[bound.operator](stored, bound))
    key = key_value(bound.field, row)
    if bound.operator == "eq":
        return bool(stored == bound.stored if by_value(bound.field) else key == bound.key)
    if bound.operator == "in":
        return bool(stored in bound.stored if by_value(bound.field) else key in bound.key)
    return bool(_ORDER[bound.operator](key, bound.key))


def by_value(found: FieldDefinition) -> bool:
    """Whether equality is that of stored values: their keys say less, or there are none."""
    return is_text(found) or found.type.kind is None or found.type.type_name == "money"


_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "lt": lambda key, value: key < value,
    "lte": lambda key, value: key <= value,
    "gt": lambda key, value: key > value,
    "gte": lambda key, value: key >= value,
}


def _near(stored: Any, bound: Compare) -> bool:
    latitude, longitude, km = bound.stored
    return bool(distance_km(stored["lat"], stored["lon"], latitude, longitude) <= km)


def distance_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """The great-circle distance, by the haversine formula."""
    p1, p2 = math.radians(lat1), math.radians(lat2)
    half = math.sin((p2 - p1) / 2) ** 2
    half += math.cos(p1) * math.cos(p2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * _EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


_ON_STORED: dict[str, Callable[[Any, Compare], Any]] = {
    "contains": lambda stored, bound: bound.stored in stored,
    "icontains": lambda stored, bound: bound.key in fold(stored),
    "startswith": lambda stored, bound: stored.startswith(bound.stored),
    "istartswith": lambda stored, bound: fold(stored).startswith(bound.key),
    "regex": lambda stored, bound: re.search(bound.stored, stored) is not None,
    "any": lambda stored, bound: bool(set(stored) & set(bound.stored)),
    "all": lambda stored, bound: set(stored) >= set(bound.stored),
    "near": _near,
}
