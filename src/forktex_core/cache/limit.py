# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Rate limits: exact, on the server's clock, in one round trip.

The decision is one script (``lua/limit.lua``): it reads the server's clock, judges every limit, and
counts the call in all of them or in none, so a denied call changes nothing. Three algorithms:

``log``      a true sliding window: the times of the last `limit` admissions in a list. Exact: in no
             window are more than `limit` admitted. About 10 bytes for each of them.
``buckets``  a sliding window estimated from two counters: the previous bucket counts with the share
             of it that the window still covers. Constant memory (about 100 bytes). A caller who
             tries all the time gets `limit` per window and one more at most; one who aims at the
             seam of two buckets can get up to ``2 * limit - 2`` in one window.
``gcra``     the generic cell rate algorithm (ATM Forum, Traffic Management 4.1): calls are spaced
             `window / limit` apart, `burst` of them may come at once. Constant memory. At most
             ``limit + burst - 1`` in one window.

``auto`` is ``log`` up to a limit of 1,000 and ``buckets`` above.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, overload

from .client import CacheClient
from .duration import Seconds, seconds
from .errors import CacheConfigurationError, CacheUnavailableError
from .namespace import KeyPart, Namespace, part_text
from .registry import client_named
from .script import Script

type Algorithm = Literal["auto", "log", "buckets", "gcra"]

_LIMIT = Script("limit")
_LIMITS = Namespace("limit")
_LONGEST_LOG = 1_000
_RETRY_WHEN_DOWN = 1.0


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `limit` in any `window_seconds`.

    Attributes:
        limit: how much is admitted.
        window_seconds: in how long; seconds, or a `timedelta`.
        algorithm: how it is counted.
        burst: for ``gcra``: how much may come at once; `limit` by default, 1 for even spacing.

    Raises:
        CacheConfigurationError: such a limit can't be kept.
    """

    limit: int
    window_seconds: Seconds
    algorithm: Algorithm = "auto"
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.limit < 1 or self.window < 1:
            raise CacheConfigurationError(f"{self}: limit and window are positive")
        if self.algorithm not in ("auto", "log", "buckets", "gcra"):
            raise CacheConfigurationError(f"{self}: algorithms are auto, log, buckets and gcra")
        if self.algorithm == "gcra" and self.limit > self.window:
            raise CacheConfigurationError(f"{self}: gcra counts in steps of a microsecond")
        if self.burst is not None and (self.algorithm != "gcra" or self.burst < 1):
            raise CacheConfigurationError(f"{self}: a burst is at least 1 and only for gcra")

    @property
    def window(self) -> int:
        """The window in microseconds."""
        return round(seconds(self.window_seconds) * 1_000_000)

    @property
    def chosen(self) -> str:
        """The algorithm, chosen by the size of the limit when none was."""
        if self.algorithm == "auto":
            return "log" if self.limit <= _LONGEST_LOG else "buckets"
        return self.algorithm

    @property
    def most(self) -> int:
        """The highest cost that can ever be admitted."""
        return self.limit if self.burst is None else self.burst


class Decision(NamedTuple):
    """Whether a call is admitted; unpacks as ``ok, retry_after``.

    Attributes:
        ok: whether it is.
        retry_after: seconds after which it would be, if nobody else is admitted; 0 when `ok`.
    """

    ok: bool
    retry_after: float


class Usage(NamedTuple):
    """How much of the limits is used right now.

    Attributes:
        used: of each limit, what counts in the current window.
        remaining: what could be admitted at once.
        retry_after: seconds after which a call of cost 1 would be admitted; 0 for now.
    """

    used: tuple[int, ...]
    remaining: int
    retry_after: float


class RateLimiter:
    """Limits with a name, to be applied to many keys.

    Args:
        name: what is limited; limiters of different names don't meet.
        limits: one or more; a call has to fit all of them. A changed limit starts counting anew.
        fail_open: admit everything while Redis is down.
        fail_closed: deny everything while Redis is down. With neither, the client's `fail_open`
            admits, and otherwise `CacheUnavailableError` is raised.
        client: the client or its name.

    Raises:
        CacheConfigurationError: there is no limit, or both ways to fail are asked for.
    """

    def __init__(
        self,
        name: str,
        *limits: Limit,
        fail_open: bool = False,
        fail_closed: bool = False,
        client: str | CacheClient = "default",
    ) -> None:
        if not limits:
            raise CacheConfigurationError(f"limiter {name!r} needs a limit and its window")
        if fail_open and fail_closed:
            raise CacheConfigurationError(f"limiter {name!r} can't fail both open and closed")
        self.name = name
        self.limits = limits
        self._fail_open = fail_open
        self._fail_closed = fail_closed
        self._client = client
        self._opening = f"{_LIMITS.path}::{{{part_text(name)}:"
        self._endings = [f"}}:{each.chosen}:{each.limit}:{each.window}" for each in limits]
        self._most = min(each.most for each in limits)
        self._arguments = [
            str(argument).encode()  # once, rather than in every call
            for each in limits
            for argument in (each.chosen, each.limit, each.window, each.most)
        ]

    async def hit(self, key: KeyPart, *, cost: int = 1) -> Decision:
        """Admit and count a call of `key`, or deny it and count nothing.

        Args:
            key: whose call it is: an address, a user id.
            cost: how much it counts.

        Raises:
            CacheConfigurationError: the cost could never be admitted.
            CacheUnavailableError: Redis is down and nobody said how to fail.
        """
        if not 1 <= cost <= self._most:
            raise CacheConfigurationError(
                f"limiter {self.name!r}: a cost is 1 to {self._most}, not {cost}"
            )
        client = client_named(self._client)
        started = time.monotonic()
        keys = self._keys(client, key)
        try:
            wait = await _LIMIT.run(client, keys, "take", cost, *self._arguments)
        except CacheUnavailableError as exc:
            return self._without_server(client, exc, started)
        client.report("denied" if wait else "allowed", self.name, started)
        return Decision(not wait, wait / 1_000_000)

    async def peek(self, key: KeyPart) -> Usage:
        """How much `key` has used; counts nothing.

        Raises:
            CacheUnavailableError: Redis is down.
        """
        client = client_named(self._client)
        keys = self._keys(client, key)
        wait, *used = await _LIMIT.run(client, keys, "peek", 1, *self._arguments)
        remaining = min(each.most - count for each, count in zip(self.limits, used, strict=True))
        return Usage(tuple(used), max(0, remaining), wait / 1_000_000)

    async def reset(self, key: KeyPart) -> None:
        """Forget what `key` has used.

        Raises:
            CacheUnavailableError: Redis is down.
        """
        client = client_named(self._client)
        keys = self._keys(client, key)
        await client.execute(keys[0], "UNLINK", *keys)

    def _keys(self, client: CacheClient, key: KeyPart) -> list[str]:
        # The braces keep all limits of one caller in one cluster slot.
        stem = client.key(f"{self._opening}{part_text(key)}")
        return [stem + ending for ending in self._endings]

    def _without_server(
        self, client: CacheClient, exc: CacheUnavailableError, started: float
    ) -> Decision:
        client.report("error", self.name, started)
        if self._fail_closed:
            client.note_outage(exc)
            return Decision(False, _RETRY_WHEN_DOWN)
        if self._fail_open or client.settings.fail_open:
            client.note_outage(exc)
            return Decision(True, 0.0)
        raise exc


@overload
async def rate_limit(
    name: str,
    *,
    key: KeyPart,
    limit: int,
    window_seconds: Seconds,
    cost: int = 1,
    algorithm: Algorithm = "auto",
    burst: int | None = None,
    fail_open: bool = False,
    fail_closed: bool = False,
    client: str | CacheClient = "default",
) -> Decision: ...
@overload
async def rate_limit(
    name: str,
    *,
    key: KeyPart,
    limits: Sequence[Limit],
    cost: int = 1,
    fail_open: bool = False,
    fail_closed: bool = False,
    client: str | CacheClient = "default",
) -> Decision: ...
async def rate_limit(
    name: str,
    *,
    key: KeyPart,
    limit: int | None = None,
    window_seconds: Seconds | None = None,
    limits: Sequence[Limit] = (),
    cost: int = 1,
    algorithm: Algorithm = "auto",
    burst: int | None = None,
    fail_open: bool = False,
    fail_closed: bool = False,
    client: str | CacheClient = "default",
) -> Decision:
    """Admit and count a call, or deny it: ``ok, retry_after = await rate_limit(…)``.

    Args:
        name: what is limited.
        key: whose call it is: an address, a user id.
        limit: how much is admitted in any window.
        window_seconds: the window; seconds, or a `timedelta`.
        limits: several limits at once instead, such as ``[Limit(10, 1), Limit(1000, 3600)]``.
        cost: how much the call counts.
        algorithm: see this module's description; exact up to a limit of 1,000 by default.
        burst: for ``gcra``: how much may come at once.
        fail_open: admit while Redis is down.
        fail_closed: deny while Redis is down.
        client: the client or its name.

    Raises:
        CacheConfigurationError: the limit can't be kept, or the cost could never be admitted.
        CacheUnavailableError: Redis is down and nobody said how to fail.
    """
    single = (limit, window_seconds, algorithm, burst)
    limiter = _limiter(name, single, tuple(limits), fail_open, fail_closed, client=client)
    return await limiter.hit(key, cost=cost)


@lru_cache(maxsize=1_024)
def _limiter(
    name: str,
    single: tuple[int | None, Seconds | None, Algorithm, int | None],
    limits: tuple[Limit, ...],
    fail_open: bool,
    fail_closed: bool,
    *,
    client: str | CacheClient,
) -> RateLimiter:
    limit, window, algorithm, burst = single
    if limit is not None and window is not None:
        limits = (Limit(limit, window, algorithm, burst), *limits)
    return RateLimiter(name, *limits, fail_open=fail_open, fail_closed=fail_closed, client=client)
