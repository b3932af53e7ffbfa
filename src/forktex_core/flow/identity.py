# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Ids of runs: UUIDv7 (RFC 9562), so that runs sort by the time at which they were started."""

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def new_run_id() -> UUID:
    """Return a UUIDv7; ids made by one process grow strictly.

    The 12 bits after the millisecond carry its fraction (method 3 of RFC 9562, section 6.2),
    counted on when the clock stands still or goes back.
    """
    global _last  # noqa: PLW0603 - what makes ids of one process strictly monotonic
    now = time.time_ns()
    ticks = (now // 1_000_000 << 12) | (now % 1_000_000 * 4096 // 1_000_000)
    with _lock:
        _last = ticks = max(ticks, _last + 1)
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=(ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | random)
