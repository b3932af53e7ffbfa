# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From where a run is done again: pure decisions over its journal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from forktex_core.flow.errors import StepNotFoundError

_NOTES = ("attempt", "cancel", "patch")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry of a journal; ``error`` is the JSON text of a failure, None of a success."""

    key: str
    seq: int
    kind: str
    name: str
    error: str | None


def recorded(
    key: str, seq: int, kind: str, name: str, value: str | None, *, failed: bool
) -> Recorded:
    """Return an entry as these functions want it. The end of a child that failed counts as the
    failure that it is.
    """
    if kind == "signal" and not failed and value is not None:
        _, signal, end = json.loads(value)  # see engine/operation.py
        if signal.startswith("$child:") and end.get("status") in ("failed", "cancelled"):
            return Recorded(key, seq, "child", name, json.dumps(end.get("error") or {}))
    return Recorded(key, seq, kind, name, (value or "{}") if failed else None)


def entry_of(run_id: UUID, step: str, entries: Sequence[Recorded]) -> int:
    """Return the number of the entry that a name or a key stands for.

    Raises:
        StepNotFoundError: there is none, or there are several.
    """
    done = [e for e in entries if e.kind not in _NOTES]
    found = [e for e in done if e.key == step] or [
        e for e in done if step in (e.name, e.name.rpartition(".")[2])
    ]
    if len(found) != 1:
        raise StepNotFoundError(
            run_id, step, [f"{e.name} ({e.key})" for e in (found or done)], several=bool(found)
        )
    return found[0].seq


def failing_entry(error: dict[str, Any], status: str, entries: Sequence[Recorded]) -> int | None:
    """Return the number of the entry that a failed run is done again from: None when it failed in
    its own code, so that everything recorded is kept.

    A cancelled or timed-out run goes on from the cancellation. A failed one from the last step
    that failed with the very error of the run or, when the code raised another one because of it,
    from the last entry, if that is a failed step.
    """
    cancels = [e.seq for e in entries if e.kind == "cancel"]
    if cancels:
        return min(cancels)
    if status == "cancelled":
        return None
    steps = [e for e in entries if e.kind not in _NOTES]
    wanted = (error.get("type"), error.get("message"))
    for entry in reversed(steps):
        if entry.error is not None and entry.kind != "signal" and _told(entry.error) == wanted:
            return entry.seq
    last = steps[-1] if steps else None
    return last.seq if last is not None and last.error and last.kind == "step" else None


def _told(text: str) -> tuple[Any, Any]:
    record = json.loads(text)
    if not isinstance(record, dict):
        return None, None
    return record.get("type"), record.get("message")
