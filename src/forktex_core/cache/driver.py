# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Everything that touches redis-py; imported when the first client opens.

redis-py is asked for RESP3 and for no retries of its own: it can't know which commands may be sent
twice (a counter, a limiter), so a command is sent at most once and its failure is told. A call that
is cancelled or times out drops its connection, unread reply and all, and a connection with unread
data is never handed out; its maintenance notifications are off because they disable that check.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from redis import exceptions
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.maint_notifications import MaintNotificationsConfig

from .errors import (
    CacheCommandError,
    CacheConfigurationError,
    CacheError,
    CacheUnavailableError,
    CacheValueError,
)
from .pool import QuickPool

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .settings import Settings

type Key = str | bytes
type Argument = str | bytes | int | float
type Command = Sequence[Argument]

_CANT_SERVE = (
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.SlotNotCoveredError,
    exceptions.TryAgainError,
)
_TRANSPORT = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
# During a failover redis-py closes connections that others are about to write to; asyncio then
# fails with whatever its half-closed transport trips over.
_FAILURES = (exceptions.RedisError, OSError, AttributeError, RuntimeError, TypeError)


def _options(settings: "Settings") -> dict[str, Any]:
    return {
        "protocol": 3,
        "socket_timeout": settings.timeouts.command,
        "socket_connect_timeout": settings.timeouts.connect,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": settings.max_connections,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _addressed(endpoint: "Endpoint") -> dict[str, Any]:
    """The URL's credentials and options in the form of keyword arguments, without its address."""
    kwargs: dict[str, Any] = dict(parse_url(endpoint.url))
    for name in ("host", "port", "path"):
        kwargs.pop(name, None)
    if kwargs.pop("connection_class", None) is not None:
        kwargs["ssl"] = True
    return kwargs


def _cluster(endpoint: "Endpoint", settings: "Settings") -> RedisCluster:
    if endpoint.service or not endpoint.hosts:
        raise CacheConfigurationError(
            f"{endpoint.shown}: a cluster is reached by redis:// or rediss:// and its nodes' hosts"
        )
    options = _options(settings) | _addressed(endpoint)
    if options.pop("db", 0):
        raise CacheConfigurationError(f"{endpoint.shown}: a cluster has only database 0")
    nodes = [ClusterNode(host, port) for host, port in endpoint.hosts]
    return RedisCluster(startup_nodes=nodes, **options)


def _sentinel(endpoint: "Endpoint", settings: "Settings") -> tuple[Any, Any]:
    options = _options(settings) | _addressed(endpoint)
    inherited = ("protocol", "socket_timeout", "socket_connect_timeout", "ssl")
    asking = {name: value for name, value in options.items() if name in inherited}
    asking |= {name: value for name, value in options.items() if name.startswith("ssl_")}
    asking |= dict(endpoint.sentinel_options) | {"retry": Retry(NoBackoff(), 0)}
    sentinel: Any = Sentinel(endpoint.hosts, sentinel_kwargs=asking, **options)  # type: ignore[no-untyped-call]  # redis-py types it half
    return sentinel.master_for(endpoint.service), sentinel


class Driver:
    """A redis-py client, its errors translated.

    Attributes:
        client: redis-py's own client.
        cluster: whether it is a cluster's.
    """

    def __init__(self, endpoint: "Endpoint", settings: "Settings") -> None:
        self._shown = endpoint.shown
        self.cluster = settings.cluster
        self._closers: list[Callable[[], Awaitable[None]]] = []
        try:
            self.client: Any = self._open(endpoint, settings)
        except (ValueError, TypeError, exceptions.RedisError) as exc:
            raise CacheConfigurationError(f"{endpoint.shown}: {exc}") from exc
        self._closers.append(self.client.aclose)

    def _open(self, endpoint: "Endpoint", settings: "Settings") -> Any:
        if settings.cluster:
            return _cluster(endpoint, settings)
        if endpoint.service is None:
            if len(endpoint.hosts) > 1:
                raise CacheConfigurationError(
                    f"{endpoint.shown}: several hosts are a cluster's: pass cluster=True"
                )
            return Redis.from_pool(QuickPool.from_url(endpoint.url, **_options(settings)))
        client, sentinel = _sentinel(endpoint, settings)
        self._closers.append(sentinel.aclose)
        return client

    async def execute(self, *command: Argument) -> Any:
        """Send a command and return its reply.

        Raises:
            CacheUnavailableError: there was no usable answer.
            CacheCommandError: the server refused the command.
            CacheValueError: an argument is no text, bytes or number.
        """
        try:
            return await self.client.execute_command(*command)
        except _FAILURES as exc:
            raise self.translated(exc, str(command[0])) from exc

    async def pipeline(self, commands: Iterable[Command], atomic: bool) -> list[Any]:
        """Send many commands at once, in a cluster to one node; `atomic` means nothing there."""
        pipe = self.client.pipeline(transaction=atomic and not self.cluster)
        for command in commands:
            pipe.execute_command(*command)
        try:
            return cast("list[Any]", await pipe.execute())
        except _FAILURES as exc:
            raise self.translated(exc, "pipeline") from exc
        finally:
            await pipe.reset()

    def translated(self, exc: Exception, command: str) -> CacheError:
        """The error of this module that says what redis-py's says."""
        text = str(exc) or type(exc).__name__
        if isinstance(exc, exceptions.MaxConnectionsError):
            problem = f"all connections are in use ({text}): raise max_connections"
            return CacheUnavailableError(self._shown, problem, transport=False)
        if isinstance(exc, _CANT_SERVE):
            return CacheUnavailableError(self._shown, text, transport=False)
        if isinstance(exc, _TRANSPORT):
            return CacheUnavailableError(self._shown, text)
        if isinstance(exc, exceptions.DataError):  # it was never sent
            return CacheValueError(command, text)
        if isinstance(exc, exceptions.ResponseError):
            missing = isinstance(exc, exceptions.NoScriptError)
            return CacheCommandError(command, text, missing_script=missing)
        return CacheUnavailableError(self._shown, text)

    def node_of(self, key: Key) -> str:
        """The name of the primary that holds a key; empty outside of a cluster or when unknown."""
        if not self.cluster:
            return ""
        try:
            return str(self.client.nodes_manager.get_node_from_slot(self.slot_of(key)).name)
        except (exceptions.RedisError, AttributeError):
            return ""

    def slot_of(self, key: Key) -> int:
        """The cluster slot of a key; always 0 outside of a cluster."""
        if not self.cluster:
            return 0
        return int(key_slot(key.encode() if isinstance(key, str) else key))

    async def primaries(self) -> list[tuple[str, Any]]:
        """Names of the primaries, each with what `execute_on` takes; one pair outside a cluster."""
        if not self.cluster:
            return [("", None)]
        try:
            await self.client.initialize()
        except _FAILURES as exc:
            raise self.translated(exc, "CLUSTER SLOTS") from exc
        return [(node.name, node) for node in self.client.get_primaries()]

    async def execute_on(self, node: Any, *command: Argument) -> Any:
        """Send a command to one of `primaries`."""
        if node is None:
            return await self.execute(*command)
        try:
            return await node.execute_command(*command)
        except _FAILURES as exc:
            raise self.translated(exc, str(command[0])) from exc

    def connection_to(self, node: Any) -> Any:
        """A connection of its own, outside of the pool, to one of `primaries`."""
        if node is None:
            return self.client.connection_pool.make_connection()
        kwargs = node.connection_kwargs | {"retry": Retry(NoBackoff(), 0)}
        return node.connection_class(**kwargs)

    async def close(self) -> None:
        """Close every connection."""
        for closer in reversed(self._closers):
            await closer()
