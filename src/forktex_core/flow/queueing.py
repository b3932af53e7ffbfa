# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Limits of queues, and what stands in them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from forktex_core.flow.client import Client
from forktex_core.flow.gate import guarded
from forktex_core.flow.retry import seconds
from forktex_core.flow.workflow import check_name

_MOST_STARTS = 1000


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue that has limits, is paused, or is used with keys.

    Args:
        running: runs that workers execute now, over all keys.
        rate: runs to begin and the seconds in which so many may.
    """

    name: str
    paused: bool
    concurrency: int | None
    per_key: int | None
    rate: tuple[int, float] | None
    running: int


class Queueing(Client):
    """The part of Flow that sets limits to queues."""

    @guarded("queue.change")
    async def queue(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        per_key: int | None = None,
        rate: tuple[int, float | timedelta] | None = None,
    ) -> None:
        """Set the limits of a queue, all of them: what is not given is not limited. They hold
        across all workers, from their next claim on.

        Runs of a queue that were started with ``key=`` get equal shares: each claim goes round the
        keys. A run that waits (for a signal, a long sleep, a child) is not executed and counts for
        no limit; when it goes on it takes part again, ahead of what its key has not begun.

        Args:
            name: the queue.
            concurrency: runs that may be executed at the same time.
            per_key: the same, for each key.
            rate: how many runs may begin within any so many seconds, ``(10, 60)`` say; 1000 at
                most: give a higher rate over a shorter time.

        Raises:
            ValueError: a limit is out of its range.
        """
        check_name(name, "queue")
        for what, limit in (("concurrency", concurrency), ("per_key", per_key)):
            if limit is not None and limit < 1:
                raise ValueError(f"{what} must be at least 1, not {limit}: pause_queue() stops one")
        period = None
        if rate is not None:
            period = seconds(rate[1])
            if not 1 <= rate[0] <= _MOST_STARTS or period <= 0:
                raise ValueError(
                    f"rate must be 1 to {_MOST_STARTS} runs in more than 0 seconds, not {rate!r}: "
                    "give a higher one over a shorter time"
                )
        await self._open.queues.set_queue(
            name, concurrency, per_key, None if rate is None else rate[0], period
        )
        self._tell_of_work(name)

    @guarded("queue.change")
    async def pause_queue(self, name: str) -> None:
        """Let no run of a queue be claimed until resume_queue(); what is executed goes on until it
        waits.
        """
        check_name(name, "queue")
        await self._open.queues.pause_queue(name, paused=True)

    @guarded("queue.change")
    async def resume_queue(self, name: str) -> None:
        """Let the runs of a queue be claimed again."""
        check_name(name, "queue")
        await self._open.queues.pause_queue(name, paused=False)
        self._tell_of_work(name)

    @guarded("queue.read")
    async def queues(self) -> list[QueueState]:
        """Return the queues that have limits, are paused, or are used with keys."""
        return [_state(row) for row in await self._open.queues.queues()]


def _state(row: Any) -> QueueState:
    rate = None if row["rate"] is None else (row["rate"], row["rate_period"])
    return QueueState(
        row["name"], row["paused"], row["concurrency"], row["per_key"], rate, row["running"]
    )
