# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A job that was enqueued, as its caller holds it: result, progress, cancellation."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from forktex_core.queue import scripts
from forktex_core.queue.errors import (
    JobCancelledError,
    JobEndedError,
    JobExpiredError,
    JobFailedError,
    NoResultError,
)
from forktex_core.queue.message import born

if TYPE_CHECKING:
    from forktex_core.queue.link import Wire
    from forktex_core.queue.results import Results

type Status = Literal["delayed", "pending", "succeeded", "failed", "cancelled", "expired"]

ENDS: dict[str, type[JobEndedError]] = {
    "failed": JobFailedError,
    "cancelled": JobCancelledError,
    "expired": JobExpiredError,
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job says it is: ``done`` from 0 to 1, and a ``note``."""

    done: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """What a handle needs of its queue."""

    root: str
    wire: "Wire"
    results: "Results"


class Job[R]:
    """A handle on one job. ``created`` is False when a unique job with the same key was there
    already: this is that one."""

    def __init__(
        self,
        job_id: str,
        access: Access,
        decode: Callable[[Any], R],
        *,
        keeps: bool = True,
        created: bool = True,
    ) -> None:
        self.id, self.created = job_id, created
        self._access, self._decode, self._keeps = access, decode, keeps

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    @property
    def enqueued_at(self) -> datetime:
        """When it was enqueued, by the clock of who did it."""
        return born(self.id)

    async def result(self, timeout: float | None = None) -> R:
        """The job's result, waited for up to ``timeout`` seconds (None: for ever).

        Raises JobFailedError, JobCancelledError, JobExpiredError; NoResultError when it isn't there
        in time, or when the
        job keeps none (``@queue.job(keep=…)`` or ``options(keep=…)``)."""
        if not self._keeps:
            raise NoResultError(self.id, "it keeps none: give @queue.job(keep=seconds)")
        stored = await self._access.results.wait(self.id, timeout)
        if stored is None:
            raise NoResultError(self.id, f"it was not there after {timeout} s")
        outcome = json.loads(stored)
        if outcome["s"] == "succeeded":
            return self._decode(outcome["v"])
        raise ENDS[outcome["s"]](self.id, outcome.get("e", ""))

    async def status(self) -> Status:
        """Where the job is. "pending" is queued or running, or, when no result is kept (any
        more), ended."""
        root, wire = self._access.root, self._access.wire
        parked = await wire.insist(("HEXISTS", f"{root}:j", self.id))
        stored = await wire.insist(("GET", f"{root}:o:{self.id}"))  # second: an end is final
        if stored is not None:
            status: Status = json.loads(stored)["s"]
            return status
        return "delayed" if parked else "pending"

    async def cancel(self) -> bool:
        """Cancel the job: it never starts, or its task is cancelled where it runs. False when it
        had ended, as far as is known.

        A plain function runs on in its thread to its end; its outcome is dropped."""
        return bool(
            await self._access.wire.insist(scripts.call("cancel", self._access.root, self.id))
        )

    async def progress(self) -> Progress | None:
        """What the running job last said with ``current_job().progress(…)``; None before and
        when it has ended."""
        stored = await self._access.wire.insist(("GET", f"{self._access.root}:p:{self.id}"))
        return Progress(*json.loads(stored)) if stored is not None else None
