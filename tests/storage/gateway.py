# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A gateway in front of a real server, at which a test can hold, refuse, alter and lose messages.

Requests go on as they came, with the signed Host header, so that the server still checks them.
"""

import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from yarl import URL

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Message:
    """A request on its way, and later its answer; what a test changes is what travels."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    refusal: int | None = None
    lost: bool = False
    cut: int | None = None
    status: int = 0
    answer: bytes = b""
    answer_headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_part(self) -> bool:
        """Whether this stores a part of a multipart upload."""
        return self.method == "PUT" and "partNumber=" in self.path


type Meddle = Callable[[Message], Awaitable[None]]


async def _pass(message: Message) -> None:
    """Let it through."""


@dataclass
class Gateway:
    """Where it listens, what it saw, and what it does before and after the server's turn."""

    url: str = ""
    seen: list[Message] = field(default_factory=list)
    before: Meddle = _pass
    after: Meddle = _pass

    def count(self, method: str, within: str = "") -> int:
        """How many requests of a method had these words in their path or query."""
        return sum(m.method == method and within in m.path for m in self.seen)


@contextlib.asynccontextmanager
async def gateway(target: str) -> AsyncIterator[Gateway]:
    """A gateway to a server's address."""
    here = Gateway()
    async with ClientSession(
        connector=TCPConnector(limit=0), auto_decompress=False, cookie_jar=DummyCookieJar()
    ) as session:

        async def serve(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            message = Message(request.method, request.raw_path, dict(request.headers), body)
            here.seen.append(message)
            await here.before(message)
            if message.refusal is not None:
                return web.Response(status=message.refusal, body=message.answer)
            if not message.lost:
                await _ask(session, target, message)
            await here.after(message)
            if message.lost:
                assert request.transport is not None
                request.transport.abort()
            if message.cut is not None:
                return await _cut(request, message)
            return _answer(message)

        runner = web.AppRunner(_application(serve), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        here.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield here
        finally:
            await runner.cleanup()


def _application(serve: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    application = web.Application(client_max_size=2**31)
    application.router.add_route("*", "/{tail:.*}", serve)
    return application


async def _ask(session: ClientSession, target: str, message: Message) -> None:
    async with session.request(
        message.method,
        URL(target + message.path, encoded=True),
        headers={k: v for k, v in message.headers.items() if k.lower() != "content-length"},
        data=io.BytesIO(message.body),  # bytes of a mebibyte or more would warn
        skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding", "User-Agent"),
        allow_redirects=False,
    ) as answer:
        message.status, message.answer = answer.status, await answer.read()
        message.answer_headers = dict(answer.headers)


async def _cut(request: web.Request, message: Message) -> web.StreamResponse:
    """Announce the whole answer, send its beginning, hang up."""
    length = {"Content-Length": str(len(message.answer))}
    answer = web.StreamResponse(status=message.status, headers={**_kept(message), **length})
    await answer.prepare(request)
    await answer.write(message.answer[: message.cut])
    assert request.transport is not None
    request.transport.close()
    return answer


def _kept(message: Message) -> dict[str, str]:
    return {k: v for k, v in message.answer_headers.items() if k.lower() not in HOP_BY_HOP}


def _answer(message: Message) -> web.Response:
    kept, headers = _kept(message), message.answer_headers
    if message.method == "HEAD":
        length = next((v for k, v in headers.items() if k.lower() == "content-length"), "0")
        return web.Response(status=message.status, headers={**kept, "Content-Length": length})
    return web.Response(status=message.status, headers=kept, body=message.answer)
