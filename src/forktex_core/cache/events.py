# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a cache reports about its work, to a hook that the service passes to `init`."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, NamedTuple

type EventKind = Literal[
    "hit", "local_hit", "stale", "miss", "refresh", "error", "allowed", "denied"
]


class CacheEvent(NamedTuple):
    """One thing that happened.

    Attributes:
        kind: of a cached function: ``hit`` (served from the server), ``local_hit`` (from this
            process), ``stale`` (an old value was served), ``miss`` (a caller had to wait for the
            value to be computed), ``refresh`` (it was computed in the background), ``error`` (the
            server, or the function in the background, failed). Of a limiter: ``allowed``,
            ``denied``, ``error``.
        name: the cached function's namespace path, or the limiter's name.
        seconds: how long it took.
    """

    kind: EventKind
    name: str
    seconds: float


@dataclass(slots=True)
class Tally:
    """How often something happened and how long it took.

    Attributes:
        count: how often.
        seconds: all durations together.
        longest: the longest duration, in seconds.
    """

    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0


class Tallies:
    """A hook that counts: ``init(url, hook=tallies)``, then ``tallies["user:profile", "hit"]``."""

    def __init__(self) -> None:
        self._tallies: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)

    def __call__(self, event: CacheEvent) -> None:
        """Count an event."""
        tally = self._tallies[event.name, event.kind]
        tally.count += 1
        tally.seconds += event.seconds
        tally.longest = max(tally.longest, event.seconds)

    def __getitem__(self, name_and_kind: tuple[str, EventKind]) -> Tally:
        """The tally of one name and kind; zeros when nothing happened yet."""
        return self._tallies.get(name_and_kind) or Tally()

    def all(self) -> dict[tuple[str, str], Tally]:
        """Every tally so far, by name and kind."""
        return dict(self._tallies)
