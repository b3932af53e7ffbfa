# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What rows were: a row of now with later changes undone, newest first.

A change keeps the values that it took away, by field number, null where there was none. So a row at
a revision is the row of now, or what its deletion kept, after undoing every change behind that
revision; nothing is stored twice, and a row that never changed has no history.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from forktex_core.data.definition import RegisterDefinition
from forktex_core.data.types.texts import TWIN


@dataclass(frozen=True)
class Change:
    """One change of a row: who made it, when, and what the changed fields were before and after.

    `action` is update, archive, restore or delete; a deletion has every field in `before`.
    """

    row_id: UUID
    revision: int
    change_set: UUID
    action: str
    at: datetime
    by: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def undone(payload: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A payload as it was before a change."""
    merged = {**payload, **before}
    return {key: value for key, value in merged.items() if value is not None}


def changes(
    definition: RegisterDefinition, payload: Mapping[str, Any] | None, kept: Sequence[Any]
) -> list[Change]:
    """The changes of one row, newest first; `payload` is None for a row that is deleted."""
    found = []
    now: Mapping[str, Any] = payload or {}
    for each in kept:
        before = json.loads(each["before"])
        older = before if each["action"] == "delete" else undone(now, before)
        found.append(
            Change(
                each["row_id"],
                each["revision"],
                each["change_set"],
                each["action"],
                each["at"],
                each["by"],
                _by_name(definition, before, older),
                _by_name(definition, before, now),
            )
        )
        now = older
    return found


def _by_name(
    definition: RegisterDefinition, changed: Mapping[str, Any], payload: Mapping[str, Any]
) -> dict[str, Any]:
    """The changed fields' values in Python's form; fields that were dropped since are left out."""
    made = {}
    for key in changed:
        found = None if key.endswith(TWIN) else definition.by_number.get(int(key))
        if found is not None:
            stored = payload.get(key)
            made[found.name] = None if stored is None else found.type.restore(stored)
    return made
