# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""When a failed step is tried again: pure decisions, no clock and no I/O."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

# Seconds in a century: what is longer is a mistake, and Postgres' intervals end somewhere.
_LONGEST = 100 * 366 * 86_400.0


def seconds(duration: float | timedelta) -> float:
    """Return a duration in seconds, given as a number of seconds or a timedelta.

    Raises:
        ValueError: it is not a number.
    """
    found = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if found != found:  # noqa: PLR0124 - what only NaN is
        raise ValueError("a duration must be a number of seconds, not nan")
    return found


def span(duration: float | timedelta, what: str, *, least: float = 0.0) -> float:
    """Return a duration in seconds; raise ValueError naming ``what`` when it is shorter than
    ``least`` or longer than a century.
    """
    found = seconds(duration)
    if not least <= found <= _LONGEST:
        bound = "must not be negative" if least == 0 else "must be more than 0 seconds"
        problem = bound if found < least else "must not be longer than 100 years"
        raise ValueError(f"{what} {problem}, not {duration!r}")
    return found


def positive(duration: float | timedelta, what: str) -> float:
    """Return a duration in seconds that is more than none; see span()."""
    return span(duration, what, least=5e-324)


@dataclass(frozen=True, slots=True)
class Retry:
    """How a step is retried.

    Args:
        max_attempts: attempts in all, the first included; None for no limit.
        initial: seconds (or a timedelta) before the second attempt.
        backoff: factor by which each further delay grows.
        max_interval: seconds (or a timedelta) that a delay never exceeds.
        jitter: share of each delay that is drawn at random (0 to 1), so that failures don't return
            in step.
        retry_on: exception types that are worth another attempt, or a predicate over the exception.
        give_up_on: exception types that are never retried; wins over ``retry_on``.

    Raises:
        ValueError: an argument is out of its range.
    """

    max_attempts: int | None = 3
    initial: float | timedelta = 0.5
    backoff: float = 2.0
    max_interval: float | timedelta = 60.0
    jitter: float = 0.2
    retry_on: tuple[type[Exception], ...] | type[Exception] | Callable[[Exception], bool] = (
        Exception
    )
    give_up_on: tuple[type[Exception], ...] | type[Exception] = ()

    def __post_init__(self) -> None:
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError(
                f"max_attempts must be at least 1 or None for no limit, not {self.max_attempts}"
            )
        if seconds(self.initial) < 0 or seconds(self.max_interval) < 0:
            raise ValueError("initial and max_interval must not be negative")
        if self.backoff < 1:
            raise ValueError(f"backoff must be at least 1, not {self.backoff}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must lie between 0 and 1, not {self.jitter}")

    def allows(self, attempt: int, error: Exception) -> bool:
        """Say whether another attempt follows the failed ``attempt`` (counted from 1)."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return False
        if isinstance(error, self.give_up_on):
            return False
        if isinstance(self.retry_on, type | tuple):
            return isinstance(error, self.retry_on)
        return self.retry_on(error)

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Return the seconds to wait after the failed ``attempt`` (counted from 1)."""
        ceiling = seconds(self.max_interval)
        try:
            full = min(seconds(self.initial) * self.backoff ** (attempt - 1), ceiling)
        except OverflowError:
            full = ceiling
        return full * (1 - self.jitter * rng.random())


NO_RETRY = Retry(max_attempts=1)
