# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the claim statement brings, as Python objects."""

from dataclasses import dataclass, field
from typing import Any

from forktex_core.flow.replay import Entry


@dataclass(slots=True)
class Signal:
    """One signal in a run's inbox."""

    no: int
    name: str
    payload: str | None
    sent_at: float


@dataclass(slots=True)
class Claimed:
    """A run as it was claimed: its row, its journal when the worker doesn't hold it warm, and its
    inbox.
    """

    run_id: Any
    workflow: str
    version: int
    queue: str
    claim: int
    signal_seq: int
    input: str | None
    started_at: float
    parent_id: Any
    parent_key: str | None
    metadata: str
    generation: int = 0
    entries: list[Entry] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
