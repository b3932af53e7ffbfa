# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An ASGI application that serves callback URLs, to mount in any framework.

GET and HEAD, one range, If-None-Match and If-Range, by RFC 9110: a Range that is malformed, that
asks for several ranges, or that comes with a HEAD, is as if it were not there. What a browser could
run is sent as an attachment, and nothing is sniffed by it. A client that goes away ends the stream.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from .callback import CallbackClaims
from .client import StorageClient
from .content_type import DEFAULT, content_disposition, is_active
from .errors import (
    InvalidKey,
    LinkExpired,
    LinkInvalid,
    NotFound,
    PreconditionFailed,
    StorageUnavailable,
)
from .objects import ObjectInfo

type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
type SendMessage = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CHUNK = 256 * 1024


class CallbackApp:
    """Streams the objects that callback URLs of this client name; mount it at the signer's
    ``base_url``.
    """

    def __init__(self, storage: StorageClient) -> None:
        self._storage = storage

    async def __call__(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"CallbackApp serves http, not {scope['type']}.")
        if scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, 405, "Only GET and HEAD.", (b"allow", b"GET, HEAD"))
            return
        try:
            claims = self._storage.verify_callback(_url(scope))
        except (LinkInvalid, LinkExpired) as error:
            await _refuse(send, 410 if isinstance(error, LinkExpired) else 403, str(error))
            return
        try:
            await self._serve(claims, scope, receive, send)
        except (NotFound, InvalidKey):
            await _refuse(send, 404, "There is no such object.")
        except PreconditionFailed:
            await _refuse(send, 409, "The object was replaced; ask again.")
        except StorageUnavailable:
            await _refuse(
                send, 503, "The store does not answer; try again.", (b"retry-after", b"5")
            )

    async def _serve(
        self, claims: CallbackClaims, scope: Scope, receive: Receive, send: SendMessage
    ) -> None:
        store = self._storage.in_bucket(claims.bucket)
        info = await store.head(claims.key)
        asked = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        headers = _headers(claims, info)
        if _is_known(asked.get("if-none-match", ""), info):
            await _start(send, 304, headers)
            await send({"type": "http.response.body"})
            return
        start, end = _range(asked, info) if scope["method"] == "GET" else (0, info.size)
        if start == end and info.size:
            await _refuse(
                send, 416, "No such range.", (b"content-range", f"bytes */{info.size}".encode())
            )
            return
        whole = end - start == info.size
        headers["content-length"] = str(end - start)
        if not whole:
            headers["content-range"] = f"bytes {start}-{end - 1}/{info.size}"
        if scope["method"] == "HEAD" or start == end:
            await _start(send, 200 if whole else 206, headers)
            await send({"type": "http.response.body"})
            return
        pieces = store.stream(
            claims.key,
            start=start,
            end=None if whole else end,
            if_match=info.etag,
            chunk_size=_CHUNK,
        )
        first = await anext(pieces)
        await _start(send, 200 if whole else 206, headers)
        await _stream(first, pieces, receive, send)


def _url(scope: Scope) -> str:
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope.get("query_string", b"")
    return f"{path.decode('latin-1')}?{query.decode('latin-1')}"


def _headers(claims: CallbackClaims, info: ObjectInfo) -> dict[str, str]:
    content_type = claims.content_type or info.content_type or DEFAULT
    left = max(int((claims.expires_at - datetime.now(UTC)).total_seconds()), 0)
    headers = {
        "content-type": content_type,
        "last-modified": format_datetime(info.last_modified.astimezone(UTC), usegmt=True),
        "accept-ranges": "bytes",
        "cache-control": info.cache_control or f"private, max-age={left}",
        "x-content-type-options": "nosniff",
    }
    if info.etag is not None:
        headers["etag"] = f'"{info.etag}"'
    disposition = (
        content_disposition(claims.filename) if claims.filename else info.content_disposition
    )
    if is_active(content_type):
        headers["content-security-policy"] = "default-src 'none'; sandbox"
        disposition = disposition or "attachment"
    return headers | ({"content-disposition": disposition} if disposition else {})


def _is_known(tags: str, info: ObjectInfo) -> bool:
    """Tell whether a client that has these versions has this one; weak tags match as well."""
    known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    return "*" in known or (info.etag is not None and f'"{info.etag}"' in known)


def _range(asked: dict[str, str], info: ObjectInfo) -> tuple[int, int]:
    """Return the offsets to send, two equal ones where there is nothing to send; the whole object
    if no single range is asked for, or of another version.
    """
    found = _RANGE.fullmatch(asked.get("range", "").replace(" ", ""))
    if (
        found is None
        or found[0] == "bytes=-"
        or asked.get("if-range", f'"{info.etag}"') != f'"{info.etag}"'
    ):
        return 0, info.size
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return 0, info.size
    if not first:
        return (max(info.size - int(last), 0), info.size) if int(last) else (info.size, info.size)
    return min(int(first), info.size), min(int(last) + 1, info.size) if last else info.size


async def _start(send: SendMessage, status: int, headers: dict[str, str]) -> None:
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def _stream(first: bytes, pieces: Any, receive: Receive, send: SendMessage) -> None:
    """Send the body until its end or until the client is gone, whichever is first."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for piece in pieces:
            if gone.done():
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
        await pieces.aclose()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: SendMessage, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
    body = why.encode()
    plain = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *headers]})
    await send({"type": "http.response.body", "body": body})
