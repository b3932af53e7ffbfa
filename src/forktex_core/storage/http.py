# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The requests that the engine has no call for: multipart uploads, buckets, policies.

One request at a time is signed anew for every attempt, so that a retry never carries an old date.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from .errors import StorageUnavailable
from .refusals import TRANSIENT, refusal, xml_error
from .transport import Transport

if TYPE_CHECKING:
    import aiohttp

_SLICE = 256 * 1024
_TRANSIENT_CODES = frozenset(
    ("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "ServerBusy")
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is ready to send: the URL is encoded, the headers are signed."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    @property
    def transient(self) -> bool:
        """Tell whether the same request may succeed in a moment."""
        return self.status in TRANSIENT or (
            self.body.lstrip().startswith(b"<") and xml_error(self.text)[0] in _TRANSIENT_CODES
        )

    def raise_for_refusal(self, *, bucket: str, key: str | None) -> "Reply":
        """Return this reply, or raise what its refusal means (S3 may refuse with status 200)."""
        code, words = xml_error(self.text) if self._says_error() else ("", "")
        code = code or self.headers.get("x-ms-error-code", "")
        if self.status >= HTTPStatus.MULTIPLE_CHOICES or code:
            status = self.status if self.status >= HTTPStatus.MULTIPLE_CHOICES else 500
            raise refusal(status, code, words, bucket=bucket, key=key)
        return self

    def _says_error(self) -> bool:
        return self.status >= HTTPStatus.MULTIPLE_CHOICES or b"<Error>" in self.body[:300]


type Maker = Callable[[], Awaitable[Request]]


class HttpChannel:
    """A pool of connections to one store, opened by the first request.

    ``slots`` bounds the requests under way, those of the engine included.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.slots = asyncio.Semaphore(transport.max_concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, make: Maker) -> Reply:
        """Send what ``make`` builds until an answer that is not transient; return that or the last
        answer.

        Raises `StorageUnavailable` if the last attempt had no answer.
        """
        deadline = time.monotonic() + self._transport.retry_timeout
        attempt = 0
        while True:
            reply = await self._try(await make(), last=attempt >= self._transport.max_retries)
            pause = self._transport.pause(attempt)
            if reply is not None and (
                not reply.transient
                or attempt >= self._transport.max_retries
                or time.monotonic() + pause > deadline
            ):
                return reply
            attempt += 1
            await asyncio.sleep(pause)

    async def _try(self, request: Request, *, last: bool) -> Reply | None:
        from aiohttp import ClientError

        try:
            async with self.slots:
                return await self._once(request)
        except (ClientError, OSError) as exc:  # a TimeoutError is an OSError
            if not last:
                return None
            address = request.url.partition("?")[0]
            raise StorageUnavailable(
                f"No answer to {request.method} {address}: {type(exc).__name__}. "
                "Is the store up, and the address right?"
            ) from exc

    async def _once(self, request: Request) -> Reply:
        from yarl import URL

        headers = dict(request.headers)
        body: object = request.body or None
        if len(request.body) > _SLICE:
            headers["content-length"] = str(len(request.body))
            body = _slices(memoryview(request.body))
        async with self._opened().request(
            request.method,
            URL(request.url, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
        ) as response:
            content = await response.read()
            names = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, names, content)

    def _opened(self) -> "aiohttp.ClientSession":
        if self._session is None:
            import aiohttp

            limits = self._transport
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=limits.max_concurrency, ssl=_trust(limits)),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect_timeout, sock_read=limits.read_timeout
                ),
                skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding", "User-Agent"),
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _trust(transport: Transport) -> ssl.SSLContext | bool:
    if transport.root_certificate is None:
        return True
    return ssl.create_default_context(cadata=transport.root_certificate)


async def _slices(body: memoryview) -> AsyncIterator[memoryview]:
    """Hand a large body over in pieces: written at once, it would be copied whole."""
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]
