# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A circuit breaker, as a pure state machine: the caller brings the time.

Closed: calls pass. After `threshold` failures in a row it opens, and calls are refused without
touching the network, so a dead server costs its timeout a few times rather than on every call.
After `cooldown` seconds one call is let through as a probe: its success closes the breaker, its
failure (or silence) keeps it open for another cooldown.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Refuses calls to a server that doesn't answer.

    Attributes:
        threshold: failures in a row that open it.
        cooldown: seconds between probes while it is open.
        failures: failures since the last success.
    """

    threshold: int
    cooldown: float
    failures: int = 0
    _retry_at: float = 0.0

    def refuses(self, now: float) -> bool:
        """Whether a call at `now` (monotonic seconds) is refused; a pass may be the probe."""
        if self.failures < self.threshold:
            return False
        if now < self._retry_at:
            return True
        self._retry_at = now + self.cooldown
        return False

    def failed(self, now: float) -> None:
        """A call got no answer."""
        self.failures += 1
        self._retry_at = now + self.cooldown

    def succeeded(self) -> None:
        """A call was answered."""
        self.failures = 0

    def wait(self, now: float) -> float:
        """Seconds until a call may pass again."""
        return max(0.0, self._retry_at - now) if self.failures >= self.threshold else 0.0
