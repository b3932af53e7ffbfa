# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Hashes of JSON values, and sets of strings."""

from collections.abc import Mapping
from typing import Any

from .duration import Seconds, milliseconds
from .operations import Client, Key, decoded, encoded
from .registry import client_named


async def hset(
    key: Key,
    values: Mapping[str, object],
    *,
    ttl: Seconds | None = None,
    kind: Any = None,
    client: Client = "default",
) -> int:
    """Set fields of a hash to JSON values; how many of them are new.

    Args:
        key: the key.
        values: the fields; at least one.
        ttl: the whole hash's lifetime from now on; by default it keeps the one that it has.
        kind: the type to write values as; their own classes by default.
        client: the client.

    Raises:
        CacheValueError: a value has no JSON of the type; nothing is set then.
    """
    target = client_named(client)
    name = target.key(key)
    fields = [text for k, value in values.items() for text in (k, encoded(key, value, kind))]
    if ttl is None:
        return int(await target.execute(name, "HSET", name, *fields))
    commands = [("HSET", name, *fields), ("PEXPIRE", name, milliseconds(ttl))]
    return int((await target.pipeline(commands, atomic=True))[0])


async def hget(key: Key, field: str, kind: Any = Any, *, client: Client = "default") -> Any:
    """The value of a hash's field, read as `kind`; `None` when it is missing."""
    target = client_named(client)
    name = target.key(key)
    return decoded(key, await target.execute(name, "HGET", name, field), kind)


async def hgetall(key: Key, kind: Any = Any, *, client: Client = "default") -> dict[str, Any]:
    """All fields of a hash, each read as `kind`."""
    target = client_named(client)
    name = target.key(key)
    found = await target.execute(name, "HGETALL", name)
    return {field.decode(): decoded(key, data, kind) for field, data in found.items()}


async def hdel(key: Key, *fields: str, client: Client = "default") -> int:
    """Delete fields of a hash; how many there were."""
    target = client_named(client)
    name = target.key(key)
    return int(await target.execute(name, "HDEL", name, *fields))


async def hincr(key: Key, field: str, by: int = 1, *, client: Client = "default") -> int:
    """Add to a hash's field and return its new value."""
    target = client_named(client)
    name = target.key(key)
    return int(await target.execute(name, "HINCRBY", name, field, by))


async def sadd(
    key: Key, *members: str, ttl: Seconds | None = None, client: Client = "default"
) -> int:
    """Add members to a set; how many are new. `ttl` is the whole set's lifetime from now on."""
    target = client_named(client)
    name = target.key(key)
    if ttl is None:
        return int(await target.execute(name, "SADD", name, *members))
    commands = [("SADD", name, *members), ("PEXPIRE", name, milliseconds(ttl))]
    return int((await target.pipeline(commands, atomic=True))[0])


async def srem(key: Key, *members: str, client: Client = "default") -> int:
    """Remove members from a set; how many were in it."""
    target = client_named(client)
    name = target.key(key)
    return int(await target.execute(name, "SREM", name, *members))


async def smembers(key: Key, *, client: Client = "default") -> set[str]:
    """All members of a set."""
    target = client_named(client)
    name = target.key(key)
    return {member.decode() for member in await target.execute(name, "SMEMBERS", name)}


async def sismember(key: Key, member: str, *, client: Client = "default") -> bool:
    """Whether a set has a member."""
    target = client_named(client)
    name = target.key(key)
    return bool(await target.execute(name, "SISMEMBER", name, member))
