# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Reading, counting and deleting by key, with typed JSON values.

Every function takes keys without the client's prefix, as text or bytes (any bytes will do), and
``client=``, a client or its name. In a cluster a call on many keys is split by slot: it is then as
many commands as slots, sent together, and not atomic as a whole. Each function raises
`CacheUnavailableError` when the server doesn't answer and `CacheCommandError` when it refuses.
"""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, overload

from .client import CacheClient
from .codec import codec_for, codec_of_value
from .duration import Seconds, milliseconds, seconds
from .errors import CacheConfigurationError
from .invoke import call
from .loader import Load, Policy
from .registry import client_named
from .script import Script

type Key = str | bytes
type Client = str | CacheClient

_INCR = Script("incr")


def encoded(key: Key, value: object, kind: Any) -> bytes:
    """A value as JSON of `kind`, or of its own class."""
    codec = codec_of_value(value) if kind is None else codec_for(kind)
    return codec.encode(str(key), value)


def decoded(key: Key, data: bytes | None, kind: Any, default: Any = None) -> Any:
    """The value of JSON, or the default when there is none."""
    return default if data is None else codec_for(kind).decode(str(key), data)


def by_slot(client: CacheClient, keys: Sequence[Key]) -> list[list[Key]]:
    """Keys grouped so that each group may stand in one command."""
    groups: defaultdict[int, list[Key]] = defaultdict(list)
    for key in keys:
        groups[client.driver.slot_of(key)].append(key)
    return list(groups.values())


@overload
async def get_json(key: Key, *, default: Any = None, client: Client = "default") -> Any: ...
@overload
async def get_json[T](
    key: Key, kind: type[T], *, default: None = None, client: Client = "default"
) -> T | None: ...
@overload
async def get_json[T](key: Key, kind: type[T], *, default: T, client: Client = "default") -> T: ...
async def get_json(
    key: Key, kind: Any = Any, *, default: Any = None, client: Client = "default"
) -> Any:
    """The value of a key.

    Args:
        key: the key.
        kind: the type to read it as, such as a dataclass, ``list[Model]`` or ``datetime``; without
            one, what JSON has.
        default: what a missing key gives.
        client: the client.

    Raises:
        CacheValueError: what is stored isn't JSON of that type.
    """
    target = client_named(client)
    name = target.key(key)
    return decoded(key, await target.execute(name, "GET", name), kind, default)


async def set_json(
    key: Key,
    value: object,
    *,
    ttl: Seconds | None = None,
    nx: bool = False,
    xx: bool = False,
    kind: Any = None,
    client: Client = "default",
) -> bool:
    """Store a value as JSON; whether it was stored.

    Args:
        key: the key.
        value: the value.
        ttl: its lifetime; without one it stays until it is deleted.
        nx: store only if the key doesn't exist.
        xx: store only if it does.
        kind: the type to write it as; its own class by default (needed for a list of models).
        client: the client.

    Raises:
        CacheValueError: the value has no JSON of that type.
        CacheConfigurationError: both `nx` and `xx`, or a `ttl` below a millisecond.
    """
    if nx and xx:
        raise CacheConfigurationError("nx and xx together would never store anything")
    target = client_named(client)
    name = target.key(key)
    options: list[str | int] = [] if ttl is None else ["PX", milliseconds(ttl)]
    options += ["NX"] * nx + ["XX"] * xx
    reply = await target.execute(name, "SET", name, encoded(key, value, kind), *options)
    return reply is not None


async def incr(
    key: Key, by: int = 1, *, ttl: Seconds | None = None, client: Client = "default"
) -> int:
    """Add to a counter and return its new value.

    Args:
        key: the key.
        by: how much to add; negative to subtract.
        ttl: its lifetime, counted from its creation (atomic with it), not from later additions.
        client: the client.
    """
    target = client_named(client)
    name = target.key(key)
    if ttl is None:
        return int(await target.execute(name, "INCRBY", name, by))
    return int(await _INCR.run(target, [name], by, milliseconds(ttl)))


@overload
async def mget(keys: Sequence[Key], *, client: Client = "default") -> list[Any]: ...
@overload
async def mget[T](
    keys: Sequence[Key], kind: type[T], *, client: Client = "default"
) -> list[T | None]: ...
async def mget(keys: Sequence[Key], kind: Any = Any, *, client: Client = "default") -> list[Any]:
    """The values of many keys in their order; `None` for a missing one.

    Raises:
        CacheValueError: what is stored under one of them isn't JSON of the type.
    """
    target = client_named(client)
    groups = by_slot(target, [target.key(key) for key in keys])
    replies = await target.pipeline([("MGET", *group) for group in groups])
    found: dict[Key, bytes | None] = {}
    for group, reply in zip(groups, replies, strict=True):
        found |= dict(zip(group, reply, strict=True))
    return [decoded(key, found[target.key(key)], kind) for key in keys]


async def mset(
    values: Mapping[Key, object],
    *,
    ttl: Seconds | None = None,
    kind: Any = None,
    client: Client = "default",
) -> None:
    """Store many values; all or none, except across the slots of a cluster.

    Raises:
        CacheValueError: one of them has no JSON of the type; nothing is stored then.
    """
    target = client_named(client)
    options = () if ttl is None else ("PX", milliseconds(ttl))
    await target.pipeline(
        [("SET", target.key(k), encoded(k, value, kind), *options) for k, value in values.items()],
        atomic=True,
    )


async def delete(*keys: Key, client: Client = "default") -> int:
    """Delete keys; how many there were."""
    return await _count("UNLINK", keys, client)


async def exists(*keys: Key, client: Client = "default") -> int:
    """How many of the keys exist."""
    return await _count("EXISTS", keys, client)


async def _count(command: str, keys: Sequence[Key], client: Client) -> int:
    target = client_named(client)
    groups = by_slot(target, [target.key(key) for key in keys])
    return sum(await target.pipeline([(command, *group) for group in groups]))


async def ttl(key: Key, *, client: Client = "default") -> float | None:
    """Seconds that a key has left: `None` without the key, `math.inf` without a lifetime."""
    target = client_named(client)
    name = target.key(key)
    left = int(await target.execute(name, "PTTL", name))
    if left < 0:
        return math.inf if left == -1 else None
    return left / 1000


async def expire(key: Key, ttl: Seconds, *, client: Client = "default") -> bool:
    """Give a key a new lifetime from now on; whether there was one."""
    target = client_named(client)
    name = target.key(key)
    return bool(await target.execute(name, "PEXPIRE", name, milliseconds(ttl)))


@overload
async def get_or_set(
    key: str,
    compute: Callable[[], Awaitable[Any] | Any],
    *,
    ttl: Seconds,
    client: Client = "default",
) -> Any: ...
@overload
async def get_or_set[T](
    key: str,
    compute: Callable[[], Awaitable[T] | T],
    kind: type[T],
    *,
    ttl: Seconds,
    client: Client = "default",
) -> T: ...
async def get_or_set(
    key: str,
    compute: Callable[[], Awaitable[Any] | Any],
    kind: Any = Any,
    *,
    ttl: Seconds,
    client: Client = "default",
) -> Any:
    """The value of a key, computed by one caller in the fleet if it is missing.

    Args:
        key: the key; in a cluster, of a namespace, so that it can have a lease beside it.
        compute: computes the value, an ``async def`` or a ``def``.
        kind: the type that it is stored as; without one, what JSON has.
        ttl: its lifetime.
        client: the client.

    Raises:
        CacheValueError: the value has no JSON of the type.
        Exception: whatever computing raised.
    """
    target = client_named(client)
    load: Load[Any] = Load(
        target,
        "get_or_set",
        target.key(key),
        (),
        codec_for(kind),
        Policy(ttl=seconds(ttl)),
        lambda: call(compute),
    )
    return await load.run()
