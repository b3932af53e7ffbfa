# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Deleting by pattern, on every server, without blocking one."""

from typing import Any

from .client import CacheClient
from .operations import by_slot
from .registry import client_named
from .store import LEASE_SUFFIX

_BATCH = 1_000
_LEASE = LEASE_SUFFIX.encode()


async def delete_pattern(pattern: str, *, client: str | CacheClient = "default") -> int:
    r"""Delete all keys that match a glob; how many there were.

    Keys are found by SCAN on every primary and unlinked in batches, so no server is blocked. A key
    that is created, or moves between nodes of a cluster, while this runs may stay.

    Args:
        pattern: a glob (``*``, ``?``, ``[ab]``, ``\`` escapes) of keys without the client's prefix;
            `Namespace.pattern` makes safe ones.
        client: the client.

    Raises:
        CacheUnavailableError: a server didn't answer; some keys may be deleted.
    """
    target = client_named(client)
    count = 0
    for name, node in await target.driver.primaries():
        cursor: Any = "0"
        while cursor is not None:
            scan = ("SCAN", cursor, "MATCH", target.key(pattern), "COUNT", _BATCH)
            following, keys = await target.execute_on(name, node, *scan)
            count += await _unlink(target, keys)
            cursor = following if int(following) else None
    return count


async def _unlink(client: CacheClient, keys: list[bytes]) -> int:
    """Delete keys; leases go first and don't count: what is being computed mustn't be stored."""
    leases = [key for key in keys if key.endswith(_LEASE)]
    values = [key for key in keys if not key.endswith(_LEASE)]
    await client.pipeline([("UNLINK", *group) for group in by_slot(client, leases)])
    return sum(await client.pipeline([("UNLINK", *group) for group in by_slot(client, values)]))
