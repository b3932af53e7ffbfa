# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a rotation tells: while it runs, and at its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class CorruptRow:
    """A row that neither vault can decrypt.

    Attributes:
        key: the row's primary key by column.
        reason: the error's message; holds no value.
    """

    key: Mapping[str, Any]
    reason: str

    def __str__(self) -> str:
        where = ", ".join(f"{name}={value}" for name, value in self.key.items())
        return f"{where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """Passed to `progress` after every batch: rows looked at so far, of so many not on the new key.

    `done` may pass `total` when the service writes with the old key meanwhile.
    """

    done: int
    total: int


@dataclass(slots=True)
class RotationReport:
    """How a rotation went.

    Attributes:
        table: name of the table.
        column: name of the column.
        keys: rows per key fingerprint as found at the start. A dry run also finds the keys of bare
            tokens; otherwise these count as ``bare``.
        rotated: rows written with the new key. 0 in a dry run.
        remaining: rows that could be read and are not on the new key at the end. A rotation that
            returns has none, a dry run has what there is to do.
        corrupt_count: rows that neither vault can read, at the end.
        corrupt: the first 1,000 of these.
    """

    table: str
    column: str
    keys: dict[str, int] = field(default_factory=dict)
    rotated: int = 0
    remaining: int = 0
    corrupt_count: int = 0
    corrupt: list[CorruptRow] = field(default_factory=list)

    def add_corrupt(self, row: CorruptRow) -> None:
        """Count a corrupt row, and keep it while there are few: memory stays bounded."""
        self.corrupt_count += 1
        if len(self.corrupt) < KEPT_ROWS:
            self.corrupt.append(row)

    def forget_corrupt(self) -> None:
        """Start counting corrupt rows anew, as each pass over the table does."""
        self.corrupt_count = 0
        self.corrupt.clear()
