# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""redis-py's pool and connections for one server, on a shorter way.

What is left out costs a fifth of a GET: a task-wide timeout around a write that the socket takes at
once, a lock around code that never yields, and redis-py's own pool metrics. What is kept is what
makes them safe: a connection that is closed or has unread data is never handed out, and whatever
goes wrong in the middle of a command closes its connection.
"""

from collections.abc import Iterable
from typing import Any, cast

from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)


class _QuickSend:
    """Sends without a timeout what the socket takes at once; the rest goes redis-py's way."""

    _writer: Any

    async def send_packed_command(
        self, command: str | bytes | Iterable[bytes], check_health: bool = True
    ) -> None:
        writer = self._writer
        if writer is None or not isinstance(command, list) or writer.transport.is_closing():
            await super().send_packed_command(command, check_health)  # type: ignore[misc]  # a mixin
            return
        writer.writelines(command)
        if writer.transport.get_write_buffer_size():
            await super().send_packed_command([], check_health)  # type: ignore[misc]  # drains it


class QuickConnection(_QuickSend, Connection):
    """Over TCP."""


class QuickSSLConnection(_QuickSend, SSLConnection):
    """Over TLS."""


class QuickUnixConnection(_QuickSend, UnixDomainSocketConnection):
    """Over a local socket."""


_QUICK = {SSLConnection: QuickSSLConnection, UnixDomainSocketConnection: QuickUnixConnection}


class QuickPool(ConnectionPool):
    """A pool for one event loop: nothing here yields between looking and taking."""

    def __init__(self, connection_class: type[Any] = Connection, **options: Any) -> None:
        super().__init__(_QUICK.get(connection_class, QuickConnection), **options)

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        """A connection that is open and has no unread data."""
        connection = cast("Any", self.get_available_connection())  # type: ignore[no-untyped-call]
        try:
            if not connection.is_connected or await connection.can_read():
                await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Take a connection back."""
        self._in_use_connections.remove(connection)
        if connection.should_reconnect():
            await connection.disconnect()
        self._available_connections.append(connection)
