# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How a value is had: found, waited for, or computed by one caller in the fleet.

The way of a call:

1. Somebody in this process is computing the key: wait for that (`flight`).
2. Look it up, in the local tier when it is on, then on the server. Fresh: serve it. Due for an
   early refresh, or stale within `stale_while_revalidate`: serve it and compute in the background.
3. Otherwise lead: claim the lease (`store`). Granted: compute, keeping the lease alive, and write.
   Held by another process: look again until its value is there or its lease is gone.
4. Computing failed and a stale value within `stale_if_error` is at hand: serve that.

What a caller gets is always decoded from the JSON that was or would be stored, on a miss too: the
value doesn't change its type or its identity when it is cached. When a lease was lost while
computing, because somebody invalidated the entry, the leader keeps its result to itself: callers
who came after the invalidation start again.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .entry import Entry, Standing, standing
from .errors import CacheConfigurationError, CacheUnavailableError, CacheValueError
from .events import EventKind
from .flight import Outcome
from .store import Claim, EntryStore, Found

if TYPE_CHECKING:
    from .client import CacheClient
    from .codec import Codec

logger = logging.getLogger("forktex_core.cache")

_FIRST_LOOK = 0.01
_SLOWEST_LOOK = 0.1
_NEVER_NEWER = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How values are kept; all times in seconds. `cached` documents each."""

    ttl: float
    jitter: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    early_refresh: float = 0.0
    cache_none: bool = True
    condition: Callable[[Any], object] | None = None
    local: bool = False
    lease: float = 10.0
    wait: float = 30.0
    max_bytes: int = 1024 * 1024
    fail_open: bool | None = None

    def __post_init__(self) -> None:
        for name, lowest in (
            ("ttl", 0.001),
            ("lease", 0.01),
            ("wait", 0),
            ("stale_while_revalidate", 0),
            ("stale_if_error", 0),
            ("early_refresh", 0),
            ("max_bytes", 1),
        ):
            if getattr(self, name) < lowest:
                raise CacheConfigurationError(
                    f"{name} is {getattr(self, name)}: it has to be at least {lowest}"
                )
        if not 0 <= self.jitter < 1:
            raise CacheConfigurationError(f"jitter is {self.jitter}: a share of the ttl, 0 to 1")

    @property
    def grace(self) -> float:
        """Seconds for which a stale entry is kept."""
        return max(self.stale_while_revalidate, self.stale_if_error)

    def keeps(self, value: object) -> bool:
        """Whether a computed value is to be stored."""
        if value is None and not self.cache_none:
            return False
        return self.condition is None or bool(self.condition(value))

    def lifetime(self) -> float:
        """Seconds for which a new entry stays on the server."""
        return self.ttl * (1 - self.jitter * random.random()) + self.grace  # noqa: S311

    def standing(self, found: Found) -> Standing:
        """What may be done with an entry that was found."""
        chance = 1.0 - random.random()  # noqa: S311  # in (0, 1]: its logarithm exists
        return standing(
            found.entry, found.left, self.stale_while_revalidate, self.early_refresh, chance
        )


@dataclass(slots=True)
class Load[T]:
    """One call that wants a value.

    Attributes:
        client: the client.
        name: what events and messages call it.
        key: the entry's key with the client's prefix.
        tags: keys of its tags with the prefix.
        codec: how values are written.
        policy: how they are kept.
        compute: computes the value.
    """

    client: "CacheClient"
    name: str
    key: str
    tags: tuple[str, ...]
    codec: "Codec[T]"
    policy: Policy
    compute: Callable[[], Awaitable[T]]

    async def run(self) -> T:
        """The value.

        Raises:
            CacheUnavailableError: Redis is down and nobody asked to fail open.
            CacheValueError: the computed value can't be stored.
            Exception: whatever computing raised.
        """
        started = time.monotonic()
        lead: Callable[[], Awaitable[Outcome]] = self._lead
        if self.key not in self.client.flights:
            try:
                found, kind = await self._find(started)
            except CacheUnavailableError as exc:
                self._tolerate(exc, started)
                lead = self._compute_bare
            else:
                served = found and self._serve(found, kind, started)
                if served:
                    return served[0]
        payload = await self.client.flights.once(self.key, lead)
        self.client.report("miss", self.name, started)
        return self.codec.decode(self.name, payload)

    async def refresh(self) -> T:
        """Compute now, whatever is stored or being computed, and store the result."""
        started = time.monotonic()
        self.client.flights.detach(self.key)
        payload = await self.client.flights.once(self.key, self._lead_by_force)
        self.client.report("refresh", self.name, started)
        return self.codec.decode(self.name, payload)

    async def invalidate(self) -> None:
        """Forget the value, and what anybody is computing of it right now."""
        self.client.flights.detach(self.key)
        await self._store().delete()

    def _store(self) -> EntryStore:
        return EntryStore(self.client, self.key, self.tags)

    async def _find(self, now: float) -> tuple[Found | None, EventKind]:
        policy = self.policy
        if policy.local:
            kept = self.client.local.get(self.key, now)
            if kept is not None:
                return Found(*kept), "local_hit"
            return await self._store().read_and_keep(), "hit"
        if policy.grace or policy.early_refresh or self.tags:
            return await self._store().read(), "hit"
        return await self._store().read_plain(), "hit"

    def _serve(self, found: Found, kind: EventKind, started: float) -> tuple[T] | None:
        """The value in a tuple, or nothing when it is spent or unreadable."""
        state = self.policy.standing(found)
        if state is Standing.SPENT:
            return None
        value = self._read(found)
        if value is None or state is Standing.FRESH:
            pass
        elif state is Standing.EARLY:
            # An entry that lives clearly longer than this one was refreshed by somebody else.
            self._refresh_later(found.left + 0.05 * self.policy.ttl)
        else:
            kind = "stale"
            self._refresh_later(self.policy.grace)
        if value is not None:
            self.client.report(kind, self.name, started)
        return value

    def _read(self, found: Found) -> tuple[T] | None:
        try:
            return (self.codec.decode(self.name, found.entry.payload),)
        except CacheValueError as exc:  # written by another version of the function
            logger.debug("%s is computed anew: %s", self.key, exc)
            return None

    def _tolerate(self, exc: CacheUnavailableError, started: float) -> None:
        self.client.report("error", self.name, started)
        asked = self.policy.fail_open
        if not (self.client.settings.fail_open if asked is None else asked):
            raise exc
        self.client.note_outage(exc)

    def _refresh_later(self, threshold: float) -> None:
        if self.key not in self.client.refreshing:
            self.client.refreshing.add(self.key)
            self.client.spawn(self._refresh_quietly(threshold))

    async def _refresh_quietly(self, threshold: float) -> None:
        started = time.monotonic()
        try:
            store, tokens = self._store(), await self._tokens()
            claim = await store.claim(self.policy.lease, threshold)
            if claim.granted:
                await self._compute_and_fill(store, tokens, None)
                self.client.report("refresh", self.name, started)
        except Exception as exc:  # noqa: BLE001  # the user's function may raise anything
            logger.warning("refreshing %s in the background failed: %r", self.key, exc)
            self.client.report("error", self.name, started)
        finally:
            self.client.refreshing.discard(self.key)

    async def _tokens(self) -> tuple[bytes, ...]:
        if not self.tags:
            return ()
        return await self._store().tokens(self.policy.ttl + self.policy.grace)

    async def _lead_by_force(self) -> Outcome:
        return await self._lead(force=True)

    async def _lead(self, *, force: bool = False) -> Outcome:
        """Claim, compute and write, or take what another process wrote meanwhile."""
        started = time.monotonic()
        store = self._store()
        try:
            tokens = await self._tokens()
            claim = await self._claim(store, tokens, force=force)
        except CacheUnavailableError as exc:
            self._tolerate(exc, started)
            return await self._compute_bare()
        if claim.newer and claim.found is not None:
            return Outcome(claim.found.entry.payload)
        if not claim.granted:
            return await self._compute_bare()
        return await self._compute_and_fill(store, tokens, claim.found)

    async def _claim(self, store: EntryStore, tokens: tuple[bytes, ...], *, force: bool) -> Claim:
        """Claim until it is granted, a usable entry is there, or waiting takes too long."""
        deadline = time.monotonic() + self.policy.wait
        threshold, pause = self.policy.grace, _FIRST_LOOK
        while True:
            claim = await store.claim(self.policy.lease, threshold, force=force)
            found = claim.found
            if claim.granted:
                return claim
            if claim.newer:
                if found is not None and found.entry.tokens == tokens and self._read(found):
                    return claim
                # Fresh, but of an invalidated tag or unreadable: only a newer one will do.
                threshold = found.left if found is not None else _NEVER_NEWER
                continue
            if time.monotonic() >= deadline:
                return claim
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311
            pause = min(2 * pause, _SLOWEST_LOOK)

    async def _compute_bare(self) -> Outcome:
        return Outcome(self._encode(await self.compute()))

    async def _compute_and_fill(
        self, store: EntryStore, tokens: tuple[bytes, ...], old: Found | None
    ) -> Outcome:
        began = time.monotonic()
        renewing = asyncio.create_task(self._renew(store))
        try:
            value = await self.compute()
            cost = time.monotonic() - began if self.policy.early_refresh else 0.0
            entry = Entry(self._encode(value), cost, self.policy.grace, tokens)
        except Exception as exc:
            await self._quietly(store.release())
            if (stale := self._fallback(old, tokens, began, exc)) is not None:
                return stale
            raise
        except BaseException:  # cancelled: there is no time left to wait for the server
            self.client.spawn(self._quietly(store.release()))
            raise
        finally:
            renewing.cancel()
        if not self.policy.keeps(value):
            await self._quietly(store.clear())
            return Outcome(entry.payload)
        return Outcome(
            entry.payload, await self._quietly(store.fill(entry, self.policy.lifetime()))
        )

    def _encode(self, value: T) -> bytes:
        payload = self.codec.encode(self.name, value)
        if len(payload) > self.policy.max_bytes:
            raise CacheValueError(
                self.name,
                f"the value takes {len(payload)} bytes, the limit is {self.policy.max_bytes}: "
                "raise max_bytes or cache less",
            )
        return payload

    def _fallback(
        self, old: Found | None, tokens: tuple[bytes, ...], began: float, exc: Exception
    ) -> Outcome | None:
        """What `stale_if_error` allows to serve instead of an error."""
        policy = self.policy
        if old is None or old.entry.tokens != tokens or isinstance(exc, CacheValueError):
            return None
        if old.entry.grace - old.left >= policy.stale_if_error or not self._read(old):
            return None
        logger.warning("%s is served stale, computing it failed: %r", self.key, exc)
        self.client.report("stale", self.name, began)
        return Outcome(old.entry.payload)

    async def _renew(self, store: EntryStore) -> None:
        while True:
            await asyncio.sleep(self.policy.lease / 3)
            with suppress(CacheUnavailableError):
                if not await store.keep(self.policy.lease):
                    return

    async def _quietly(self, action: Awaitable[bool]) -> bool:
        """Write what nobody waits for: failing costs a computation, not the caller's value."""
        try:
            return await action
        except CacheUnavailableError as exc:
            self.client.note_outage(exc)
            return True
