# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The open clients of this process, by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from .client import CacheClient, Health
from .errors import CacheConfigurationError, CacheNotInitialisedError
from .events import CacheEvent
from .settings import Settings, Timeouts

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

_clients: dict[str, CacheClient] = {}


async def init(
    url: str,
    *,
    name: str = "default",
    prefix: str | None = None,
    max_connections: int = 50,
    timeouts: Timeouts | float | None = None,
    cluster: bool = False,
    fail_open: bool = False,
    hook: Callable[[CacheEvent], object] | None = None,
    local_entries: int = 1_000,
    local_bytes: int = 16 * 1024 * 1024,
) -> CacheClient:
    """Open a client for the whole process and see that the server answers.

    Doing it again with the same settings gives the same client.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://…`` for TLS, ``unix:///socket``,
            ``redis+sentinel://host,host/name/0``; of a cluster any nodes, ``redis://host,host``.
            The query goes to the driver (``?ssl_ca_certs=/ca.pem``).
        name: what other functions know the client by; give names to use more than one server.
        prefix: stands before every key, with a colon: what belongs to this service.
        max_connections: how many connections to open at most (to each node of a cluster); more
            callers wait for one.
        timeouts: seconds for connecting, for a command and for a free connection; a number is for
            the first two.
        cluster: whether the server is a Redis or Valkey Cluster.
        fail_open: go on without the server while it is down: cached functions compute, limiters
            allow; one line in the log says so. Otherwise those calls raise.
        hook: is called with every `CacheEvent`, on the event loop: it must be quick.
        local_entries: how many entries the local tier keeps at most (`cached(local=True)`).
        local_bytes: how many bytes they take at most.

    Raises:
        CacheConfigurationError: the URL or a setting can't work, or a client of that name is open
            with other settings.
        CacheUnavailableError: the server doesn't answer (not with `fail_open`).
    """
    if not isinstance(timeouts, Timeouts):
        timeouts = Timeouts() if timeouts is None else Timeouts(timeouts, timeouts)
    settings = Settings(
        url,
        prefix,
        max_connections,
        timeouts,
        cluster,
        fail_open,
        hook,
        local_entries,
        local_bytes,
    )
    present = _clients.get(name)
    if present is not None and present.abandoned:
        present.abandon()
    elif present is not None:
        return _same(present, settings)
    client = _clients[name] = CacheClient(settings, name)
    try:
        return await client.open()
    except BaseException:
        _clients.pop(name, None)
        raise


def _same(present: CacheClient, settings: Settings) -> CacheClient:
    if present.settings == settings:
        return present
    raise CacheConfigurationError(
        f"{present!r} is open with other settings: await close({present.name!r}) first, "
        "or open another client beside it with init(url, name=…)"
    )


async def close(name: str | None = None) -> None:
    """Close one client, or all of them. Closing what isn't open does nothing."""
    for each in [name] if name is not None else list(_clients):
        client = _clients.pop(each, None)
        if client is None:
            continue
        if client.abandoned:
            client.abandon()
        else:
            await client.close()


def client_named(name: str | CacheClient) -> CacheClient:
    """The open client of a name; a client itself is itself.

    Raises:
        CacheNotInitialisedError: there is none of that name.
    """
    if isinstance(name, CacheClient):
        return name
    client = _clients.get(name)
    if client is None:
        raise CacheNotInitialisedError(
            name, f"isn't open: await init(url{'' if name == 'default' else f', name={name!r}'})"
        )
    return client


def get_client(name: str | CacheClient = "default") -> "Redis | RedisCluster":
    """redis-py's own client, for all that this module doesn't wrap.

    Keys then need their prefix, errors are redis-py's, and the breaker isn't asked.

    Raises:
        CacheNotInitialisedError: the client isn't open.
    """
    return cast("Redis | RedisCluster", client_named(name).driver.client)


async def health(client: str | CacheClient = "default") -> Health:
    """Ask every primary for a sign of life; an outage is an answer, not an error.

    Raises:
        CacheNotInitialisedError: the client isn't open.
    """
    return await client_named(client).health()
