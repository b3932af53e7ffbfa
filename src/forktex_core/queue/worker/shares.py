# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Who may take how much, pure: priorities within a queue, queues within a worker.

Priorities: of every ten jobs that are taken while all lanes have some, six are high, three normal,
one is low. The pattern
goes on from one take to the next, so that a worker with one free slot at a time keeps to it as
well.
What a lane doesn't use, the others may: ``take.lua`` fills up by priority.
"""

import math
from collections.abc import Mapping

PATTERN = "hnhhnhlhnh"
LANES = "hnl"


def shares(room: int, place: int) -> tuple[tuple[int, int, int], int]:
    """The shares of h, n and l in ``room`` jobs from a place in the pattern on, and the place
    after them."""
    rounds, rest = divmod(room, len(PATTERN))
    picked = (PATTERN + PATTERN)[place : place + rest]
    high, normal, low = (PATTERN.count(lane) * rounds + picked.count(lane) for lane in LANES)
    return (high, normal, low), (place + rest) % len(PATTERN)


class Slots:
    """The places for running jobs that the queues of one worker share.

    While other queues press (their last take came back full), a queue keeps to its weight's part of
    all; else it may
    use every place that is free."""

    def __init__(self, size: int, weights: Mapping[str, float]) -> None:
        self._size = self._free = size
        self._weights = weights
        self._used = dict.fromkeys(weights, 0)
        self._pressing: set[str] = set()

    def room(self, queue: str) -> int:
        """How many more jobs a queue may take now."""
        if self._pressing <= {queue}:
            return self._free
        rivals = self._pressing | {queue}
        part = self._weights[queue] / sum(self._weights[rival] for rival in rivals)
        return max(0, min(self._free, math.ceil(self._size * part) - self._used[queue]))

    def press(self, queue: str, pressing: bool) -> None:
        """Note whether a queue has more jobs than it was allowed to take."""
        (self._pressing.add if pressing else self._pressing.discard)(queue)

    def use(self, queue: str, places: int) -> None:
        """Take places, or give them back when negative."""
        self._used[queue] += places
        self._free -= places
