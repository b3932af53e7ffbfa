# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A proxy before Postgres that loses the acknowledgement of a commit.

It reads the server's messages (type, length, body: the documentation's "Message Formats") of the
connections whose application_name it was told. A statement ends with CommandComplete and then, once
the implicit transaction is committed, ReadyForQuery: the proxy holds the one back, waits for the
other, and cuts the connection. So the commit has happened, and the client can't know.
"""

import asyncio
from contextlib import suppress
from typing import Self

COMMAND_COMPLETE, READY = b"C"[0], b"Z"[0]


class Proxy:
    """Listens on a free loopback port.

    Args:
        host: where Postgres is.
        port: its port.
        application: the application_name of the connections to lose acknowledgements on.
        lose: which of their statements loses its acknowledgement, counted from 1.
    """

    def __init__(self, host: str, port: int, application: str, lose: int) -> None:
        self._upstream, self._application, self._lose = (host, port), application.encode(), lose
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.completed = 0
        self.lost = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, down_in: asyncio.StreamReader, down_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_in, up_out = await asyncio.open_connection(*self._upstream)
        try:
            startup = await _startup(down_in)
            up_out.write(startup)
            watched = self._application in startup.split(b"\0")
            answers = self._watch(up_in, down_out) if watched else _copy(up_in, down_out)
            pipes = [asyncio.create_task(_copy(down_in, up_out)), asyncio.create_task(answers)]
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
        finally:
            self._tasks.discard(task)
            for writer in (down_out, up_out):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _watch(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass messages on, until the one to be lost."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                kind, message = await _message(source)
                if kind == COMMAND_COMPLETE:
                    self.completed += 1
                    if self.completed == self._lose:
                        while kind != READY:
                            kind, message = await _message(source)
                        self.lost += 1
                        return
                sink.write(message)
                await sink.drain()


async def _startup(source: asyncio.StreamReader) -> bytes:
    length = await source.readexactly(4)
    return length + await source.readexactly(int.from_bytes(length) - 4)


async def _message(source: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await source.readexactly(5)
    return head[0], head + await source.readexactly(int.from_bytes(head[1:]) - 4)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
