# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Retry delays, pure: exponential with jitter."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from forktex_core.queue.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay before the n-th retry: between half and all of ``first * factor ** (n - 1)``, at
    most ``most`` seconds.

    The half that is random keeps jobs that failed together from coming back together ("equal
    jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)."""

    first: float = 1.0
    factor: float = 2.0
    most: float = 600.0

    def __post_init__(self) -> None:
        if not (0 <= self.first < math.inf and self.factor >= 1 and 0 <= self.most < math.inf):
            raise ConfigurationError(
                f"{self} is no backoff: give seconds of 0 or more, and a factor of 1 or more"
            )

    def delay(self, retry: int, chance: Callable[[], float] = random.random) -> float:
        """Seconds before retry number ``retry`` (from 1); ``chance`` gives a number in [0, 1)."""
        try:
            whole = self.first * self.factor ** (retry - 1)
        except OverflowError:
            whole = self.most
        whole = min(whole, self.most)
        return whole / 2 + whole / 2 * chance()
