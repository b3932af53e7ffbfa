# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Reading and writing the entries of cached functions, their leases and their tags.

Protocol of a lease. A lease is a key beside its entry, in the same slot, that holds its owner's
name. Whoever creates it may compute; only while it still holds that name may the owner write the
entry, in the same script that checks. So a slow owner whose lease ran out, or was removed because
the entry was invalidated while it computed, writes nothing.

Protocol of a tag. A tag is a key that holds a random token. An entry carries the tokens that its
tags had before it was computed, and counts only while they are still the same: invalidating a tag
is deleting one key, however many entries carry it. A tag that the server evicted or expired costs
recomputing, never an old value.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .entry import TOKEN_BYTES, Entry
from .script import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .client import CacheClient

LEASE_SUFFIX = "!lease"
_FOREVER = 2**53
_GRANTED, _NEWER = 1, 2

_READ = Script("read")
_CLAIM = Script("claim")
_LEASE = Script("lease")
_TAGS = Script("tags")


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and the seconds that remain of its lifetime."""

    entry: Entry
    left: float


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: whether it was granted, and the entry as it is now."""

    granted: bool
    newer: bool
    found: Found | None


def _found(data: bytes | None, left_ms: int) -> Found | None:
    return None if data is None else Found(Entry.unpack(data), left_ms / 1000)


class EntryStore:
    """The entry of one key and its surroundings on the server.

    Args:
        client: the client.
        key: the entry's key with the client's prefix.
        tags: keys of its tags, with the prefix.
    """

    __slots__ = ("_client", "_key", "_lease", "_owner", "_tags")

    def __init__(self, client: "CacheClient", key: str, tags: "Sequence[str]" = ()) -> None:
        self._client = client
        self._key = key
        self._lease = key + LEASE_SUFFIX
        if client.driver.slot_of(self._lease) != client.driver.slot_of(key):
            self._lease = f"{{{key}}}{LEASE_SUFFIX}"
        self._tags = tags
        self._owner = secrets.token_hex(8)

    async def read(self) -> Found | None:
        """The entry, unless one of its tags was invalidated since."""
        driver = self._client.driver
        if self._tags and len({driver.slot_of(key) for key in (self._key, *self._tags)}) > 1:
            reads = [self._client.execute(key, "GET", key) for key in self._tags]
            (data, left), *tokens = await asyncio.gather(
                _READ.run(self._client, [self._key]), *reads
            )
        else:
            data, left, *tokens = await _READ.run(self._client, [self._key, *self._tags])
        found = _found(data, left)
        return found if found is not None and found.entry.tokens == tuple(tokens) else None

    async def read_plain(self) -> Found | None:
        """The entry of a function that needs neither its age nor tags: one GET."""
        data = await self._client.execute(self._key, "GET", self._key)
        return _found(data, _FOREVER)

    async def read_and_keep(self) -> Found | None:
        """The entry, kept in the local tier when its changes are being announced."""
        client = self._client
        if not client.tracker.ready(self._key) or not all(map(client.tracker.ready, self._tags)):
            return await self.read()
        expectation = client.local.expect(self._key, *self._tags)
        asked = time.monotonic()
        found = None
        try:
            found = await self.read()
            return found
        finally:
            if found is None:
                client.local.settle(expectation, None, asked)
            else:
                client.local.settle(expectation, found.entry, asked + found.left)

    async def claim(self, lease: float, threshold: float, *, force: bool = False) -> Claim:
        """Ask for the right to compute.

        Args:
            lease: seconds for which the right holds unless it is kept.
            threshold: an entry with more seconds left than this is newer than what was seen.
            force: take the right from whoever has it.
        """
        state, data, left = await _CLAIM.run(
            self._client,
            [self._key, self._lease],
            self._owner,
            round(lease * 1000),
            round(threshold * 1000),
            int(force),
        )
        return Claim(state == _GRANTED, state == _NEWER, _found(data, left))

    async def fill(self, entry: Entry, ttl: float) -> bool:
        """Write the entry for `ttl` seconds and end the lease, if it is still held."""
        return await self._use("fill", entry.pack(), max(1, round(ttl * 1000)))

    async def keep(self, lease: float) -> bool:
        """Hold the lease for another `lease` seconds, if it is still held."""
        return await self._use("keep", round(lease * 1000))

    async def release(self) -> bool:
        """End the lease without an entry, if it is still held."""
        return await self._use("drop")

    async def clear(self) -> bool:
        """Delete the entry and end the lease, if it is still held."""
        return await self._use("clear")

    async def _use(self, action: str, *args: Any) -> bool:
        keys = [self._key, self._lease]
        return bool(await _LEASE.run(self._client, keys, self._owner, action, *args))

    async def tokens(self, ttl: float) -> tuple[bytes, ...]:
        """The tags' tokens, made when missing, for an entry that will live `ttl` seconds."""
        slots: dict[int, list[str]] = {}
        for key in self._tags:
            slots.setdefault(self._client.driver.slot_of(key), []).append(key)
        found: dict[str, bytes] = {}
        for keys in slots.values():
            fresh = [secrets.token_bytes(TOKEN_BYTES) for _ in keys]
            made = await _TAGS.run(self._client, keys, max(1, round(ttl * 1000)), *fresh)
            found |= dict(zip(keys, made, strict=True))
        return tuple(found[key] for key in self._tags)

    async def delete(self) -> None:
        """Delete the entry, and the lease of whoever is computing it."""
        await self._client.execute(self._key, "UNLINK", self._lease, self._key)
        self._client.local.drop([self._key])
