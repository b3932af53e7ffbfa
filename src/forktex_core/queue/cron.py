# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Cron jobs: enqueued once per tick, by whichever worker is first; there is no leader.

Every worker knows the plan and reckons its ticks by the server's clock. At a tick each tries to
enqueue the job with the
guard "TICK:NAME": the script enqueues it only when that cron's last tick is older, and notes the
tick in the same step,
so a tick fires once and a worker that is late or slow fires nothing twice. Ticks only grow: a plan
that is put back
an hour when summer time ends is cronsim's affair, as in Debian's cron.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from forktex_core.queue.definition import Call
from forktex_core.queue.duration import Seconds, milliseconds
from forktex_core.queue.envelope import Envelope
from forktex_core.queue.errors import ConfigurationError


@dataclass(frozen=True)
class Cron:
    """A call and the plan by which it is enqueued."""

    call: Call[Any]
    expression: str
    timezone: str = "UTC"
    catch_up: Seconds = 0

    def __post_init__(self) -> None:
        where = f"job {self.call.definition.name!r}: "
        milliseconds(self.catch_up, f"{where}catch_up")
        try:
            next(self._ticks(datetime.now(UTC)))
        except (
            ValueError,
            TypeError,
            AttributeError,
            StopIteration,
            OSError,
            LookupError,
        ) as error:
            raise ConfigurationError(
                f"{where}cron={self.expression!r} in {self.timezone!r} "
                f"is no plan ({error}): give five or six fields and a time zone by its IANA name"
            ) from error

    def after(self, moment: datetime) -> datetime | None:
        """The first tick after an aware ``moment``; None when there is none any more."""
        return next(self._ticks(moment), None)

    def first(self, moment: datetime) -> datetime | None:
        """The first tick that a worker which starts at ``moment`` cares for: the last missed
        one, or the next."""
        since = moment - timedelta(milliseconds=milliseconds(self.catch_up, "catch_up"))
        missed = None
        if since < moment:
            missed = next(self._ticks(moment + timedelta(seconds=1), reverse=True), None)
        return missed if missed is not None and missed > since else self.after(moment)

    def envelope(self, tick: datetime) -> Envelope:
        """The job of one tick."""
        envelope = self.call.envelope()
        name = self.call.definition.name
        envelope.guard = f"{round(tick.timestamp() * 1000)}:{name}:{self.expression}"
        return envelope

    def _ticks(self, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        from cronsim import CronSim, CronSimError

        try:
            local = moment.astimezone(ZoneInfo(self.timezone))
            return iter(CronSim(self.expression, local, reverse=reverse))
        except CronSimError as error:
            raise ValueError(str(error)) from error
