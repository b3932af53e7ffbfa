# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Locks across the fleet, with a fencing token.

A lock is a lease: it runs out when its holder dies, and also when its holder is only slow. Mutual
exclusion therefore can't be had from the lock alone: hand `HeldLock.token` to whatever you write to
and let that refuse a token below the highest it has seen. Tokens grow with every acquisition, on
the server's clock, and keep growing when the server forgets the last one.

One server (or one primary and its replicas) keeps the lock. A failover may lose the newest writes,
so two may hold a lock after one; their tokens differ.
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from .client import CacheClient
from .duration import Seconds, milliseconds, seconds
from .errors import CacheError, CacheUnavailableError, LockLostError, LockTimeoutError
from .namespace import Namespace
from .registry import client_named
from .script import Script

_LOCK = Script("lock")
_LOCKS = Namespace("lock")
_LONGEST_PAUSE = 0.1


class HeldLock:
    """A lock that is held; `lock` gives one.

    Attributes:
        name: the lock's name.
        token: the fencing token, larger than that of every holder before.
    """

    def __init__(self, client: CacheClient, name: str, ttl: Seconds) -> None:
        self.name = name
        self.token = 0
        self._client = client
        self._ttl = ttl
        key = client.key(f"{_LOCKS.path}::{{{_LOCKS.key(name).partition('::')[2]}}}")
        self._keys = [key, f"{key}!token"]
        self._owner = secrets.token_hex(16)

    async def acquire(self, wait: float) -> None:
        """Take the lock; `lock` does it.

        Raises:
            LockTimeoutError: another held it for all of `wait` seconds.
        """
        deadline = time.monotonic() + wait
        pause = 0.005
        while True:
            lifetime = milliseconds(self._ttl)
            self.token, left = await _LOCK.run(
                self._client, self._keys, "take", self._owner, lifetime
            )
            if self.token:
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise LockTimeoutError(
                    self.name,
                    f"is held by somebody else for another {left / 1000} s; waited {wait} s",
                )
            await asyncio.sleep(min(remaining, pause * (0.5 + random.random())))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def extend(self, ttl: Seconds | None = None) -> None:
        """Hold the lock for another `ttl` from now; by default as long as it was taken for.

        Raises:
            LockLostError: it isn't held any more: stop what it protects.
        """
        lifetime = milliseconds(self._ttl if ttl is None else ttl)
        (kept, _) = await _LOCK.run(self._client, self._keys, "extend", self._owner, lifetime)
        if not kept:
            raise LockLostError(self.name, f"(token {self.token}) ran out before it was extended")

    async def release(self) -> bool:
        """Give the lock back; whether it was still held. `lock` does it."""
        (released, _) = await _LOCK.run(self._client, self._keys, "release", self._owner)
        return bool(released)

    def abandon(self) -> None:
        """Give the lock back in the background, whether it was taken or not."""
        self._client.spawn(self._release_quietly())

    async def _release_quietly(self) -> None:
        with suppress(CacheError):  # it runs out by itself
            await self.release()


@asynccontextmanager
async def lock(
    name: str, ttl: Seconds, *, wait: Seconds = 10, client: str | CacheClient = "default"
) -> AsyncIterator[HeldLock]:
    """Hold a lock while the block runs: ``async with lock("report", ttl=30) as held:``.

    Args:
        name: the lock's name.
        ttl: how long it is held unless `HeldLock.extend` is called: seconds or a `timedelta`.
        wait: how long to wait for another holder; 0 tries once.
        client: the client.

    Raises:
        LockTimeoutError: another held it for all of `wait`.
        LockLostError: at the end of the block: it had run out, so another may have run beside it.
        CacheUnavailableError: the server didn't answer.
    """
    held = HeldLock(client_named(client), name, ttl)
    try:
        await held.acquire(seconds(wait))
    except (asyncio.CancelledError, CacheUnavailableError):  # it may have been granted
        held.abandon()
        raise
    try:
        yield held
    except BaseException:
        held.abandon()
        raise
    if not await held.release():
        raise LockLostError(name, f"(token {held.token}) ran out before the block ended: raise ttl")
