# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The way to the server that holds one queue: where it is, and wires to it.

A queue lies in one slot, so one server holds all of it, on a Cluster too: the link asks the Cluster
which one, and
wires are plain connections to it. A wire that breaks forgets the place, and the next one asks
again; so does a
server that says MOVED or READONLY. Failover is therefore nothing special.

A wire is one connection. A command whose caller is cancelled, or whose reply doesn't come in time,
leaves a reply on its way that the next caller would read as its own: such a connection is dropped.
The time is ours, one limit for all that a caller sends at once: redis-py's own limit of a single
reply gives None when it is over, which can't be told from a reply.
"""

import asyncio
import functools
import time
from collections.abc import Sequence
from typing import Any, Self

from hiredis import pack_command
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.driver_info import DriverInfo
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from forktex_core.queue.errors import ConfigurationError, QueueUnavailableError
from forktex_core.queue.scripts import Command, in_full

TRANSIENT = (RedisConnectionError, RedisTimeoutError, OSError)
TURNED_AWAY = (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
)
TURNED_AWAY_WORDS = (
    "UNBLOCKED",
    "MISCONF",
    "BUSY ",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
)
FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5


class Link:
    """Where the server of the queue ``name`` is; ``timeout`` in seconds, for connecting and for
    each reply."""

    def __init__(self, url: str, name: str, timeout: float) -> None:
        self.name = name
        self.root = f"fq:{{{name}}}"
        self.timeout = timeout
        self._url = url
        self._direct = self._pool_of(url)
        self._seeds: list[ClusterNode] = []
        self._clustered: bool | None = None
        self._pool: ConnectionPool | None = None

    def wire(self) -> "Wire":
        """A wire of one's own; it connects when it is first used."""
        return Wire(self)

    def forget_place(self) -> None:
        """Ask anew where the queue is before the next connection."""
        if self._clustered:
            self._pool = None

    async def connect(self) -> AbstractConnection:
        """A fresh connection to the server that holds the queue."""
        if self._clustered is None:
            connection = await self._dial(self._direct)
            self._clustered = await self._is_cluster(connection)
            if not self._clustered:
                self._pool = self._direct
                return connection
            await connection.disconnect()
        if self._pool is None:
            self._pool = await self._locate()
        return await self._dial(self._pool)

    async def _dial(self, pool: ConnectionPool) -> AbstractConnection:
        connection = new_connection(pool)
        dial: Any = connection.connect  # redis-py leaves it untyped
        try:
            async with asyncio.timeout(self.timeout):
                await dial()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _is_cluster(self, connection: AbstractConnection) -> bool:
        try:
            async with asyncio.timeout(self.timeout):
                await connection.send_command("INFO", "cluster")
                return b"cluster_enabled:1" in await connection.read_response()
        except ResponseError:
            return False
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _pool_of(self, url: str) -> ConnectionPool:
        try:
            return ConnectionPool.from_url(
                url,
                protocol=2,
                socket_timeout=None,
                socket_connect_timeout=self.timeout,
                socket_keepalive=True,
                driver_info=driver(),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"queue {self.name!r}: {shown(url)!r} is no Redis URL ({error}): "
                "give redis://, rediss:// or unix://"
            ) from error

    async def _locate(self) -> ConnectionPool:
        cluster: Any = RedisCluster.from_url(
            self._url, startup_nodes=self._seeds or None, socket_timeout=self.timeout
        )
        try:
            await cluster.initialize()
            self._seeds = [ClusterNode(node.host, node.port) for node in cluster.get_nodes()]
            home = cluster.get_node_from_key(self.root)
        except (ClusterError, RedisClusterException) as error:
            raise RedisConnectionError(str(error)) from error
        finally:
            await cluster.aclose()
        if home is None:
            raise RedisConnectionError("no node of the Cluster holds the queue's slot")
        pool = self._pool_of(self._url)
        pool.connection_kwargs.update(host=home.host, port=home.port)
        return pool


def shown(url: str) -> str:
    """A URL without what may be a password."""
    scheme, mark, rest = str(url).rpartition("@")
    return f"{scheme.partition('://')[0]}://…@{rest}" if mark else rest


@functools.cache
def driver() -> DriverInfo:
    """What connections say of themselves; redis-py looks its version up anew for each of them."""
    return DriverInfo()


def new_connection(pool: Any) -> AbstractConnection:
    """A connection as the pool is configured, outside of it."""
    connection: AbstractConnection = pool.make_connection()
    return connection


class Wire:
    """One connection to the server of a queue; used by one caller at a time, the others wait."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._turn = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self.client_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to close."""
        return self._connection is not None

    async def send(self, *commands: Command, wait: float = 0.0) -> list[Any]:
        """Send commands in one go, and their replies in order; ``wait``: seconds that the server
        may block.

        An error reply is raised after all were read. Raises an error of `TRANSIENT` when the
        connection or the
        server's role is lost: the commands may or may not have been done."""
        async with self._turn:
            replies = await self._exchange(commands, wait)
            for number, reply in enumerate(replies):
                if isinstance(reply, NoScriptError):
                    replies[number] = (await self._exchange([in_full(commands[number])], wait))[0]
        for reply in replies:
            if isinstance(reply, Exception):
                raise await self._meaning(reply)
        return replies

    async def ask(self, command: Command) -> Any:
        """The reply to one command; see `send`."""
        return (await self.send(command))[0]

    async def insist(self, command: Command, *more: Command) -> Any:
        """The reply to a command (not to those that are sent with it), asked again over a lost
        connection until the link's timeout is over.

        Raises QueueUnavailableError."""
        deadline, pause = time.monotonic() + self._link.timeout, FIRST_PAUSE
        while True:
            try:
                return (await self.send(command, *more))[0]
            except TRANSIENT as error:
                if time.monotonic() + pause > deadline:
                    raise QueueUnavailableError(
                        self._link.name, str(error) or repr(error)
                    ) from error
            except OutOfMemoryError as error:
                reason = f"it is out of memory: {error}"
                raise QueueUnavailableError(self._link.name, reason) from error
            except ResponseError as error:
                if str(error).startswith("FULL"):  # a word of ours: `Submitter` tells it
                    raise
                raise QueueUnavailableError(self._link.name, f"it refused: {error}") from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)

    async def close(self) -> None:
        """Drop the connection; the wire may be used again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _exchange(self, commands: Sequence[Command], wait: float) -> list[Any]:
        try:
            connection = self._connection or await self._open()
            async with asyncio.timeout(self._link.timeout + wait):
                try:
                    await connection.send_packed_command(b"".join(map(packed, commands)))
                except AttributeError as error:  # asyncio's, of a transport that was lost meanwhile
                    raise RedisConnectionError(f"the connection is gone: {error}") from error
                return [await reply(connection) for _ in commands]
        except BaseException as error:
            await self.close()
            if isinstance(error, TRANSIENT):
                self._link.forget_place()
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(f"no answer in {self._link.timeout + wait:g} s") from error
            raise

    async def _open(self) -> AbstractConnection:
        self._connection = connection = await self._link.connect()
        async with asyncio.timeout(self._link.timeout):
            await connection.send_command("CLIENT", "ID")
            self.client_id = await connection.read_response()
        return connection

    async def _meaning(self, error: Exception) -> Exception:
        """An error reply that says "not here, not now" is as good as a lost connection."""
        words = str(error).startswith(TURNED_AWAY_WORDS)
        if not isinstance(error, TURNED_AWAY) and not words:
            return error
        await self.close()
        self._link.forget_place()
        return RedisConnectionError(str(error))


async def reply(connection: AbstractConnection) -> Any:
    """The next reply; an error reply is given, not raised."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def packed(command: Command) -> bytes:
    """A command in the words of the protocol."""
    pack: Any = pack_command  # its stub knows commands of one word only
    words: bytes = pack(command)
    return words
