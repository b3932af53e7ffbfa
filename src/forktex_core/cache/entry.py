# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What stands under a cached function's key, and how fresh it is. Pure.

An entry is a header and the value's JSON. The header carries what freshness is judged by:

    mark u8 | number of tags u8 | cost of computing, us u32 | grace, ms u64 | tokens, 8 bytes each

The mark begins no JSON text, so a function that needs none of this stores mere JSON.

The key's lifetime on the server is the fresh time plus the grace (the longest time for which a
stale value may still be served), so the remaining lifetime that the *server* reports tells how
fresh an entry is: no host's clock takes part.
"""

import math
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Self

_HEADER = struct.Struct("!BBIQ")
_MARK = b"\xf1"
TOKEN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value.

    Attributes:
        payload: the value's JSON.
        cost: seconds that computing it took.
        grace: seconds at the end of its lifetime in which it is stale.
        tokens: the tokens of its tags when it was computed.
    """

    payload: bytes
    cost: float = 0.0
    grace: float = 0.0
    tokens: tuple[bytes, ...] = ()

    def pack(self) -> bytes:
        """The entry as it is stored; mere JSON when it needs no header."""
        if not (self.cost or self.grace or self.tokens):
            return self.payload
        cost = min(round(self.cost * 1_000_000), 2**32 - 1)
        head = _HEADER.pack(_MARK[0], len(self.tokens), cost, round(self.grace * 1000))
        return b"".join((head, *self.tokens, self.payload))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a stored entry."""
        if data[:1] != _MARK or len(data) < _HEADER.size:
            return cls(data)
        _, count, cost, grace = _HEADER.unpack_from(data)
        start = _HEADER.size
        end = start + count * TOKEN_BYTES
        tokens = tuple(data[at : at + TOKEN_BYTES] for at in range(start, end, TOKEN_BYTES))
        return cls(data[end:], cost / 1_000_000, grace / 1000, tokens)


class Standing(Enum):
    """What may be done with an entry."""

    FRESH = "fresh"
    EARLY = "early"
    """Fresh, but due for an early refresh."""
    STALE = "stale"
    """May be served while it is refreshed."""
    SPENT = "spent"
    """May be served only when computing fails."""


def standing(entry: Entry, left: float, stale_for: float, beta: float, chance: float) -> Standing:
    """Judge an entry that the server keeps for another `left` seconds.

    Early refresh is the probabilistic rule of Vattani, Chierichetti and Lowenstein, "Optimal
    Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015 (XFetch): refresh when
    ``cost * beta * -ln(chance)`` reaches the fresh time left. The nearer the expiry and the dearer
    the value, the likelier; `beta` of 1 is optimal under their model, above it refreshes earlier.

    Args:
        entry: the entry.
        left: seconds that remain of its lifetime on the server.
        stale_for: seconds for which a stale value may be served while it is refreshed.
        beta: eagerness of early refresh; 0 for none.
        chance: a uniform random number in (0, 1].
    """
    fresh = left - entry.grace
    if fresh > 0:
        early = beta > 0 and -math.log(chance) * entry.cost * beta >= fresh
        return Standing.EARLY if early else Standing.FRESH
    return Standing.STALE if -fresh < stale_for else Standing.SPENT
