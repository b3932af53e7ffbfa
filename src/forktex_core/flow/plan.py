# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""When a schedule fires. Pure: no clock, no I/O; the caller says what time it is.

A cron expression is read in the schedule's time zone, by Debian's rules: a time that a change to
summer time skips fires right after the gap; one that a change back repeats fires once. Expressions
that run every hour or minute go by real time and are not affected. An interval counts real seconds
from the epoch, so ``every=3600`` fires on the hour (UTC) whenever it was set.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Self
from uuid import UUID

LEAST_CATCH_UP = timedelta(seconds=10)  # a change of leader takes some seconds
_AT_ONCE = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The times of a schedule: one of the three, in a time zone."""

    cron: tuple[str, ...] = ()
    every: float | None = None
    at: tuple[datetime, ...] = ()
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if bool(self.cron) + (self.every is not None) + bool(self.at) != 1:
            raise ValueError("a schedule needs exactly one of cron=, every= and at=")
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least one second, not {self.every!r}")
        if any(moment.tzinfo is None for moment in self.at):
            raise ValueError("at= needs moments with a time zone: datetime(..., tzinfo=UTC)")
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"timezone={self.timezone!r} is no time zone: give an IANA name such as "
                "'Europe/Bucharest'"
            ) from error
        for expression in self.cron:
            _cron(expression, _EPOCH.astimezone(ZoneInfo(self.timezone)))

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after ``moment``, None when there is none any more."""
        return next(self.times(moment), None)

    def times(self, after: datetime) -> Iterator[datetime]:
        """Return the times after a moment, in UTC and in order."""
        if self.cron:
            return self._cron_times(after)
        if self.every is not None:
            return _every(self.every, after)
        return iter(sorted({m.astimezone(UTC) for m in self.at if m > after}))

    def _cron_times(self, after: datetime) -> Iterator[datetime]:
        from zoneinfo import ZoneInfo

        local = after.astimezone(ZoneInfo(self.timezone))
        lines = [_cron(expression, local) for expression in self.cron]
        heads = [next(line, None) for line in lines]
        while found := [head for head in heads if head is not None]:
            first = min(head.astimezone(UTC) for head in found)
            if first > after:
                yield first
            for number, head in enumerate(heads):
                while head is not None and head.astimezone(UTC) <= first:
                    head = next(lines[number], None)  # noqa: PLW2901 - the head moves on
                heads[number] = head

    def dump(self) -> str:
        """Return the plan as JSON text."""
        at = [m.astimezone(UTC).isoformat() for m in self.at]
        return json.dumps(
            {"cron": self.cron, "every": self.every, "at": at, "timezone": self.timezone}
        )

    @classmethod
    def load(cls, text: str) -> Self:
        """Return the plan that dump() made a text of."""
        found: dict[str, Any] = json.loads(text)
        return cls(
            cron=tuple(found["cron"]),
            every=found["every"],
            at=tuple(datetime.fromisoformat(m) for m in found["at"]),
            timezone=found["timezone"],
        )


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done about a schedule now: the times to fire, how many are too late for that,
    and the next time to look.
    """

    fire: list[datetime]
    skipped: int
    next_at: datetime | None


def due(plan: Plan, next_at: datetime, now: datetime, catch_up: timedelta) -> Due:
    """Decide about the times from ``next_at`` to ``now``: those that are at most ``catch_up`` late
    fire, a hundred at once; what is older is skipped.
    """
    oldest = now - max(catch_up, LEAST_CATCH_UP)
    before = next_at - timedelta(microseconds=1)
    skipped = 0
    if next_at < oldest:
        missed = [t for t in islice(plan.times(before), 1000) if t < oldest]
        skipped, before = len(missed), oldest - timedelta(microseconds=1)
    fire: list[datetime] = []
    for time in plan.times(before):
        if time > now or len(fire) == _AT_ONCE:
            return Due(fire, skipped, time)
        fire.append(time)
    return Due(fire, skipped, None)


def delayed(name: str, time: datetime, jitter: timedelta) -> datetime:
    """Return when the run of a time is due: up to ``jitter`` later, the same for all who ask."""
    share = int.from_bytes(_digest(name, time, "jitter")[:8]) / 2**64
    return time + jitter * share


def scheduled_run_id(name: str, time: datetime) -> UUID:
    """Return the id of the run of a time: a UUIDv7 of that time, the same for all who ask."""
    milliseconds = (time - _EPOCH) // timedelta(milliseconds=1)
    drawn = int.from_bytes(_digest(name, time, "id")[:10])
    high, low = drawn >> 68, drawn & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def _digest(name: str, time: datetime, purpose: str) -> bytes:
    text = f"{purpose}:{name}:{time.astimezone(UTC).isoformat()}"
    return hashlib.sha256(text.encode()).digest()


def _cron(expression: str, local: datetime) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError

    try:
        return CronSim(expression, local)
    except CronSimError as error:
        raise ValueError(f"cron={expression!r} is no cron expression: {error}") from error


def _every(period: float, after: datetime) -> Iterator[datetime]:
    step = timedelta(seconds=period)
    number = (after - _EPOCH) // step + 1
    while True:
        yield _EPOCH + number * step
        number += 1
