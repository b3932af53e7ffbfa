# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a queue sends, and the contract of what sends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forktex_core.queue.message import Message

MOST = 1000  # jobs in one call: some milliseconds of the server's time


@dataclass(slots=True)
class Envelope:
    """A message and what ``enqueue.lua`` needs to know about it, in its words."""

    message: Message
    lane: str = "n"
    due: str = ""
    unique: str = ""
    guard: str = ""

    @property
    def plain(self) -> bool:
        """Whether there is nothing to decide: it is due, and neither unique nor guarded."""
        return not (self.due or self.unique or self.guard)


@dataclass(slots=True)
class BatchStart:
    """A batch to begin with the jobs of the same call."""

    id: str
    callback: Message | None


class Transport(Protocol):
    """Where a queue's jobs go: to Redis, or to a test."""

    async def submit(
        self, envelopes: Sequence[Envelope], batch: BatchStart | None = None
    ) -> list[str]:
        """Enqueue all or none; for each what ``enqueue.lua`` says."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...
