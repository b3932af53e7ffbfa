# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a running job may know and say of itself."""

import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from forktex_core.queue.errors import QueueError
from forktex_core.queue.message import ATTEMPT, BATCH_RESULT, CRASHES, KEY, Message, born

if TYPE_CHECKING:
    from forktex_core.queue.queue import Queue

PROGRESS_TTL = 24 * 3600 * 1000  # ms; a job's end removes it before


class BatchResult(NamedTuple):
    """How a batch ended, for its callback."""

    total: int
    failed: int


@dataclass(slots=True)
class JobContext:
    """The job that runs here. ``state`` is what the worker's start-up hooks put there."""

    queue: "Queue"
    message: Message
    state: dict[str, Any] = field(default_factory=dict)
    reported: bool = False

    @property
    def id(self) -> str:
        """The job's id, the same for every attempt."""
        return self.message.id

    @property
    def name(self) -> str:
        """The job's name."""
        return self.message.name

    @property
    def key(self) -> str | None:
        """The ``key=`` that it was enqueued with."""
        key: str | None = self.message.options.get(KEY)
        return key

    @property
    def attempt(self) -> int:
        """1 for the first attempt, one more for each failure before."""
        return int(self.message.options.get(ATTEMPT, 0)) + 1

    @property
    def crashes(self) -> int:
        """How many workers died with this attempt in hand."""
        return int(self.message.options.get(CRASHES, 0))

    @property
    def enqueued_at(self) -> datetime:
        """When the job was enqueued."""
        return born(self.message.id)

    @property
    def batch(self) -> BatchResult | None:
        """For the callback of a batch: how it ended."""
        numbers = self.message.options.get(BATCH_RESULT)
        return BatchResult(*numbers) if numbers else None

    async def progress(self, done: float, note: str = "") -> None:
        """Say how far the job is, from 0 to 1; `Job.progress` reads it. Raises
        QueueUnavailableError."""
        self.reported = True
        if self.queue.transport is None:
            words = json.dumps([done, note])
            key = f"{self.queue.link.root}:p:{self.id}"
            await self.queue.submitter.wire.insist(("SET", key, words, "PX", PROGRESS_TTL))


running: ContextVar[JobContext] = ContextVar("forktex_queue_job")


def current_job() -> JobContext:
    """The context of the job that calls. Raises QueueError outside of a job."""
    try:
        return running.get()
    except LookupError:
        raise QueueError(
            "no job runs here: current_job() is for job functions and what they call"
        ) from None
