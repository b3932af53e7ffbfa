# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Limits of a job: how often it may start, how many may run at once; for the job, or for each
key."""

from dataclasses import dataclass
from datetime import timedelta

from forktex_core.queue.duration import milliseconds
from forktex_core.queue.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``size`` starts in any ``per`` seconds (or timedelta), over all workers.

    ``by_key``: counted for each ``key=`` that jobs are enqueued with, instead of once for the
    job."""

    size: int
    per: float | timedelta
    by_key: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or not milliseconds(self.per, "Rate: per"):
            raise ConfigurationError(
                f"{self} admits nothing: give a size of 1 or more, and a period"
            )

    @property
    def window(self) -> int:
        """The period in milliseconds."""
        return milliseconds(self.per, "Rate: per")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most ``size`` at once, over all workers; ``by_key`` as in `Rate`."""

    size: int
    by_key: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigurationError(f"{self} admits nothing: give a size of 1 or more")


type Limit = Rate | Concurrency


def asked(limits: tuple[Limit, ...], job: str, key: str | None) -> list[str | int]:
    """What ``admit.lua`` wants to know about limits: their number, then kind, name, size and
    window of each."""
    words: list[str | int] = [len(limits)]
    for number, limit in enumerate(limits):
        name = f"{job}:{number}" + (f":{key}" if limit.by_key and key is not None else "")
        window = limit.window if isinstance(limit, Rate) else 0
        words += ["r" if isinstance(limit, Rate) else "c", name, limit.size, window]
    return words
