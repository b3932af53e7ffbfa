# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can go wrong with a queue.

QueueError
├── QueueUnavailableError     the server can't be reached, or refused for lack of memory
├── QueueFullError            the queue holds as many jobs as it may
├── ConfigurationError        an option, a job or a schedule that can't work
│   └── UnknownJobError       no job of that name is registered
├── WrongArgumentsError       the arguments don't fit the job's signature
│   └── ArgumentsTooLargeError
├── NoResultError             the job keeps no result, or it isn't there in time
└── JobEndedError             the job ended otherwise than with a result
    ├── JobFailedError
    ├── JobCancelledError
    └── JobExpiredError

``Retry`` is no error: a job raises it to be run again.
"""

from datetime import timedelta
from math import isfinite


class QueueError(Exception):
    """Root of this module's errors."""


class QueueUnavailableError(QueueError):
    """The server of ``queue`` did not answer in time; what was asked may or may not have
    happened."""

    def __init__(self, queue: str, reason: str) -> None:
        self.queue, self.reason = queue, reason
        super().__init__(
            f"queue {queue!r}: the Redis server is not available ({reason}): "
            "check the URL and the server, or raise Queue(timeout=…)"
        )


class QueueFullError(QueueError):
    """``queue`` holds ``depth`` jobs and may hold ``limit``."""

    def __init__(self, queue: str, depth: int, limit: int) -> None:
        self.queue, self.depth, self.limit = queue, depth, limit
        super().__init__(
            f"queue {queue!r} is full: it holds {depth} of {limit} jobs: "
            "start more workers, raise Queue(max_length=…), or try again later"
        )


class ConfigurationError(QueueError):
    """An option, a job definition or a schedule can't work as given."""


class UnknownJobError(ConfigurationError):
    """``queue`` has no job called ``job``."""

    def __init__(self, queue: str, job: str, known: list[str]) -> None:
        self.queue, self.job, self.known = queue, job, known
        names = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"queue {queue!r} has no job {job!r} (it has: {names}): "
            "import the module that decorates it with @queue.job"
        )


class WrongArgumentsError(QueueError):
    """The arguments of ``job`` don't fit its signature, or are not JSON by their annotations."""

    def __init__(self, job: str, reason: str) -> None:
        self.job, self.reason = job, reason
        super().__init__(f"job {job!r} can't take these arguments: {reason}")


class ArgumentsTooLargeError(WrongArgumentsError):
    """The arguments of a job are ``size`` bytes of JSON; ``limit`` are allowed."""

    def __init__(self, job: str, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            job,
            f"they are {size} bytes of JSON and {limit} are allowed: store the data elsewhere "
            "and pass its key, or raise Queue(max_bytes=…)",
        )


class NoResultError(QueueError):
    """There is no result of the job ``job_id`` to be had."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} has no result: {reason}")


class JobEndedError(QueueError):
    """The job ended without a result."""

    verb = "ended"

    def __init__(self, job_id: str, detail: str = "") -> None:
        self.job_id, self.detail = job_id, detail
        super().__init__(f"job {job_id} {self.verb}" + (f": {detail}" if detail else ""))


class JobFailedError(JobEndedError):
    """The job failed for good; ``detail`` is its last failure. It is among the dead letters."""

    verb = "failed"


class JobCancelledError(JobEndedError):
    """The job was cancelled or purged."""

    verb = "was cancelled"


class JobExpiredError(JobEndedError):
    """The job was still waiting when it expired."""

    verb = "expired before a worker took it"


class Retry(Exception):  # noqa: N818 - a request, raised by the user's code
    """Raised by a job to be run again ``after`` so many seconds (or a timedelta; None: its usual
    backoff).

    It counts as one of the job's retries; when none is left, the job is a dead letter."""

    def __init__(self, after: float | timedelta | None = None, reason: str = "it asked to") -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not finite(seconds):
            raise ConfigurationError(
                f"Retry(after={after!r}) is no time: give seconds or a timedelta"
            )
        self.after = seconds
        super().__init__(reason)


def finite(value: object) -> bool:
    """Whether it is a number that can be reckoned with."""
    return isinstance(value, int | float) and isfinite(value)
