# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a source is asked: a query that was checked, in the terms of a definition."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from forktex_core.data.definition import RegisterDefinition
from forktex_core.data.query.bound import Bound
from forktex_core.data.query.order import OrderKey, Position

Archived = Literal["without", "only", "with"]


@dataclass(frozen=True)
class Request:
    """Rows of a register: which, in what order, from where."""

    definition: RegisterDefinition
    where: Bound
    order: tuple[OrderKey, ...] = ()
    archived: Archived = "without"
    search: tuple[str, ...] = ()
    after: Position | None = None
    offset: int = 0
    limit: int = 50
    timeout: float | None = None
    as_of: datetime | None = None
