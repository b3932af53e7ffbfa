# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Ids of runs: UUIDv7 (RFC 9562), so that runs sort by the time at which they were started."""

import hashlib
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


def child_run_id(parent: UUID, key: str) -> UUID:
    """Return the id of the run that ``parent`` starts at ``key``: the same one every time.

    It is a UUIDv7 with the parent's moment, so that it sorts behind its parent; the other bits are
    derived from both arguments.
    """
    derived = int.from_bytes(hashlib.sha256(parent.bytes + key.encode()).digest()[:10])
    return UUID(
        int=(parent.int >> 80) << 80
        | 0x7 << 76
        | (derived >> 62 & 0xFFF) << 64
        | 0b10 << 62
        | derived & (1 << 62) - 1
    )


def as_run_id(run_id: UUID | str) -> UUID:
    """Return a run's id; raise ValueError when it isn't one."""
    if isinstance(run_id, UUID):
        return run_id
    try:
        return UUID(run_id)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"a run id is a UUID, not {run_id!r}") from error
