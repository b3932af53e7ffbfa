# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A row as it is read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

SYSTEM_FIELDS = (
    "id",
    "revision",
    "created_at",
    "updated_at",
    "created_by",
    "updated_by",
    "archived_at",
)


@dataclass(frozen=True)
class Row(Mapping[str, Any]):
    """One row: a mapping of its fields' values by name, and what the store keeps of it.

    A field without a value is there and is None. `included` holds the rows that `.include(...)`
    asked for, by the name of the relationship.
    """

    id: UUID
    revision: int
    values_by_name: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    created_by: str | None = None
    updated_by: str | None = None
    archived_at: datetime | None = None
    included: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name in SYSTEM_FIELDS:
            return getattr(self, name)
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)
