# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Fire-and-forget jobs on Redis or Valkey: at least once, short, idempotent. See docs/queue.md."""

from typing import TYPE_CHECKING, Any

from forktex_core.queue.backoff import Backoff
from forktex_core.queue.batch import Batch
from forktex_core.queue.context import BatchResult, JobContext, current_job
from forktex_core.queue.default import close, default_queue, enqueue, init, job, process
from forktex_core.queue.definition import Call, Options
from forktex_core.queue.errors import (
    ArgumentsTooLargeError,
    ConfigurationError,
    JobCancelledError,
    JobEndedError,
    JobExpiredError,
    JobFailedError,
    NoResultError,
    QueueError,
    QueueFullError,
    QueueUnavailableError,
    Retry,
    UnknownJobError,
    WrongArgumentsError,
)
from forktex_core.queue.handle import Job, Progress
from forktex_core.queue.inspect import DeadLetter, Stats, metrics
from forktex_core.queue.job import Enqueuer, JobFunction
from forktex_core.queue.limits import Concurrency, Rate
from forktex_core.queue.queue import Queue

if TYPE_CHECKING:
    from forktex_core.queue.worker import Worker

__all__ = [
    "ArgumentsTooLargeError",
    "Backoff",
    "Batch",
    "BatchResult",
    "Call",
    "Concurrency",
    "ConfigurationError",
    "DeadLetter",
    "Enqueuer",
    "Job",
    "JobCancelledError",
    "JobContext",
    "JobEndedError",
    "JobExpiredError",
    "JobFailedError",
    "JobFunction",
    "NoResultError",
    "Options",
    "Progress",
    "Queue",
    "QueueError",
    "QueueFullError",
    "QueueUnavailableError",
    "Rate",
    "Retry",
    "Stats",
    "UnknownJobError",
    "Worker",
    "WrongArgumentsError",
    "close",
    "current_job",
    "default_queue",
    "enqueue",
    "init",
    "job",
    "metrics",
    "process",
]


def __getattr__(name: str) -> Any:
    if name == "Worker":  # it brings the Redis client, which only workers and callers load
        from forktex_core.queue.worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
