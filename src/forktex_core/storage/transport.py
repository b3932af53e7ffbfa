# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How patient a client is with its store, and how much it asks at once."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transport:
    """Timeouts, retries and bounds; times in seconds.

    ``read_timeout`` is the longest silence of the server; for a body that is stored in one request
    it bounds the whole request. 5xx, 408, 429 and lost connections are tried again up to
    ``max_retries`` times within ``retry_timeout``, after a pause that doubles from ``backoff`` to
    ``max_backoff`` and is shortened at random by up to a half. ``max_concurrency`` bounds the
    requests under way at once. ``root_certificate`` (PEM) is trusted besides the system's, for a
    store with a private authority.
    """

    connect_timeout: float = 5.0
    read_timeout: float = 60.0
    max_retries: int = 4
    retry_timeout: float = 60.0
    backoff: float = 0.1
    max_backoff: float = 5.0
    max_concurrency: int = 64
    root_certificate: str | None = None

    def pause(self, attempt: int) -> float:
        """Return how long to wait after the failed attempt of this number (from 0)."""
        longest = min(self.max_backoff, self.backoff * 2.0**attempt)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter is no secret
