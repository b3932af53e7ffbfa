# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""UUID version 7 of RFC 9562, made without the database.

Layout (section 5.7): 48 bits of Unix milliseconds, 4 bits of version, 12 + 62 bits of random data
around the 2 bits of the variant. Within one millisecond, and while the clock stands behind the last
one used, the 74 random bits are raised by a random step instead of drawn anew ("monotonic random",
section 6.2, method 2), so that the ids of one process always ascend. Two processes that share a
state after a fork draw different steps, and part entirely with the next millisecond.
"""

import os
import threading
import time
from uuid import UUID

_TIME_BITS = 48
_RANDOM_BITS = 74
_STEP_BITS = 32
_LOW_BITS = 62


def _random(bits: int) -> int:
    return int.from_bytes(os.urandom((bits + 7) // 8)) >> (-bits % 8)


def compose(milliseconds: int, random: int) -> UUID:
    """Lay `milliseconds` (48 bits) and `random` (74 bits) out; ValueError if one does not fit."""
    if milliseconds >> _TIME_BITS or random >> _RANDOM_BITS:
        raise ValueError(
            f"a version 7 UUID has {_TIME_BITS} bits for the time and {_RANDOM_BITS} bits for "
            f"chance; {milliseconds} and {random} do not fit"
        )
    high, low = random >> _LOW_BITS, random & ((1 << _LOW_BITS) - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


class UUID7Source:
    """A source of ascending UUIDs; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = -1
        self._random = 0

    def next(self, milliseconds: int) -> UUID:
        """The next id, given the clock's `milliseconds` since 1970."""
        with self._lock:
            if milliseconds > self._milliseconds:
                self._milliseconds = milliseconds
                self._random = _random(_RANDOM_BITS - 1)  # the top bit stays free for the steps
            else:
                self._random += 1 + _random(_STEP_BITS)
                if self._random >> _RANDOM_BITS:
                    self._milliseconds += 1
                    self._random = _random(_RANDOM_BITS - 1)
            return compose(self._milliseconds, self._random)


_source = UUID7Source()


def uuid7() -> UUID:
    """A new UUID version 7 (RFC 9562): ordered by time, and ascending within this process."""
    return _source.next(time.time_ns() // 1_000_000)
