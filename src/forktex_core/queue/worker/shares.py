# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How much a queue may take within its worker, pure. (Priorities in a queue: ``take.lua``.)"""

import math
from collections.abc import Mapping


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
