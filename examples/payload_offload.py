# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Large payloads of workflows in a bucket: a codec for `Flow(..., codec=(encode, decode))`.

A text above the threshold is stored under its SHA-256, and the journal keeps a reference of 72
characters. The same text has the same reference, so that a replay, or a retry after a crash, stores
nothing twice. Let the bucket's lifecycle rule delete what is older than your longest run's history.

The codec's two functions are plain, while storage is asynchronous: a thread of its own runs that.
`Flow(max_payload_bytes=)` counts what is before the codec: raise it to what you mean to offload.
Whoever encodes or decodes waits meanwhile, and so does their event loop, for as long as a put or a
get takes: choose the threshold so that this is rare. Values read often come from a small cache.

    with PayloadOffload("s3://payloads", credentials, threshold=64 * 1024) as offload:
        flow = Flow(url, codec=offload.codec)
"""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Coroutine
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from forktex_core.storage import AlreadyExists, ChecksumMismatch, StorageClient

REFERENCE = "@object:"  # no JSON text begins with this
TIMEOUT = 60.0


class PayloadOffload:
    """A pair of functions from text to text; ``options`` are those of `StorageClient`."""

    def __init__(
        self,
        endpoint: str,
        *args: Any,
        threshold: int = 64 * 1024,
        cached: int = 64,
        **options: Any,
    ) -> None:
        self._make = lambda: StorageClient(endpoint, *args, **options)
        self._threshold = threshold
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="payload-offload")
        self._fetch = lru_cache(maxsize=cached)(self._fetch_once)

    @property
    def codec(self) -> tuple[Callable[[str], str], Callable[[str], str]]:
        """What `Flow` takes."""
        return self.encode, self.decode

    def __enter__(self) -> Self:
        self._thread.start()
        self._storage = self._wait(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wait(self._storage.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> StorageClient:
        return self._make()

    def _wait[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT)

    def encode(self, text: str) -> str:
        """Return a reference to a large text, now stored, and a small one as it is."""
        body = text.encode()
        if len(body) < self._threshold:
            return text
        digest = hashlib.sha256(body).hexdigest()
        self._wait(self._store(digest, body))
        return REFERENCE + digest

    async def _store(self, digest: str, body: bytes) -> None:
        with contextlib.suppress(AlreadyExists):  # the same text: its digest is its name
            await self._storage.put(
                _key(digest),
                body,
                content_type="application/json",
                if_none_match="*",
                sha256=digest,
            )

    def decode(self, text: str) -> str:
        """Return the text of a reference, checked against it; any other text is itself."""
        return self._fetch(text.removeprefix(REFERENCE)) if text.startswith(REFERENCE) else text

    def _fetch_once(self, digest: str) -> str:
        body = self._wait(self._storage.get(_key(digest)))
        if hashlib.sha256(body).hexdigest() != digest:
            raise ChecksumMismatch(f"The payload {digest} was altered.", key=_key(digest))
        return body.decode()


def _key(digest: str) -> str:
    return f"payloads/{digest[:2]}/{digest}"
