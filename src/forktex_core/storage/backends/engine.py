# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""obstore, our engine for S3, Google and Azure: the calls we use, with our errors.

obstore answers most refusals with one error class and a long text, so the status and the store's
own code are read from the text; `FileNotFoundError` stands for a missing key and a missing bucket
alike.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from forktex_core.storage.errors import (
    AccessDenied,
    InvalidRange,
    NotFound,
    PreconditionFailed,
    StorageError,
    StorageUnavailable,
    TruncatedBody,
    Unsupported,
)
from forktex_core.storage.objects import Attributes, CommonPrefix, Condition, ObjectInfo
from forktex_core.storage.refusals import refusal, xml_error
from forktex_core.storage.transport import Transport

from .protocol import Body

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

PAGE = 1000
_STATUS = re.compile(r"status code: (\d{3})")
_HEADERS = {
    "Content-Type",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Storage-Class",
}
_FAILURES = (BaseError, OSError, ValueError)


def client_options(transport: Transport, *, http: bool) -> Any:
    """Return the engine's client settings; a stream may take as long as it wants while it moves."""
    options: dict[str, object] = {
        "allow_http": http,
        "connect_timeout": timedelta(seconds=transport.connect_timeout),
        "read_timeout": timedelta(seconds=transport.read_timeout),
        "timeout": timedelta(days=7),
        # Without a proxy of its own the engine would take one from the environment; this one is
        # excluded for every host.
        "proxy_url": "http://127.0.0.1:9",
        "proxy_excludes": "*,0.0.0.0/0,::/0",
    }
    if transport.root_certificate is not None:
        options["root_certificate"] = transport.root_certificate
    return options


def retry_config(transport: Transport) -> Any:
    """Return the engine's retry settings."""
    return {
        "max_retries": transport.max_retries,
        "retry_timeout": timedelta(seconds=transport.retry_timeout),
        "backoff": {
            "init_backoff": timedelta(seconds=transport.backoff),
            "max_backoff": timedelta(seconds=transport.max_backoff),
            "base": 2,
        },
    }


class EngineDownload:
    """An answer of the engine whose body is still to come.

    What the engine knows besides is gone with the body, and costs more to ask for than a small
    body: it is asked for when it is wanted, before.
    """

    def __init__(self, result: "obstore.GetResult", bucket: str, key: str) -> None:
        self._result = result
        self._bucket, self._key = bucket, key
        self.start, stop = result.range
        self.length = stop - self.start

    @cached_property
    def info(self) -> ObjectInfo:
        """The object."""
        return _info(self._result)

    async def read(self) -> bytes:
        """Return the whole body."""
        try:
            body = (await self._result.bytes_async()).to_bytes()
        except _FAILURES as exc:
            raise self._broken(exc) from exc
        self._check(len(body))
        return body

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:
        """Yield the body in pieces of at least ``size`` bytes, the last aside."""
        received = 0
        stream = aiter(self._result.stream(size))
        while True:
            try:
                piece = bytes(await anext(stream))
            except StopAsyncIteration:
                break
            except _FAILURES as exc:
                raise self._broken(exc) from exc
            received += len(piece)
            yield piece
        self._check(received)

    def _broken(self, exc: Exception) -> StorageError:
        """The engine has tried to go on with the body where it broke off, of the same version."""
        error = translate(exc, bucket=self._bucket, key=self._key)
        if type(error) is not StorageUnavailable:
            return error
        return TruncatedBody(
            f"The body of {self._key!r} broke off. {error}", bucket=self._bucket, key=self._key
        )

    def _check(self, received: int) -> None:
        if received != self.length:
            raise TruncatedBody(
                f"Got {received} of {self.length} bytes of {self._key!r}.",
                bucket=self._bucket,
                key=self._key,
            )


class Engine:
    """obstore's calls on one bucket."""

    def __init__(
        self, store: "S3Store | GCSStore | AzureStore", bucket: str, slots: asyncio.Semaphore
    ) -> None:
        self._store = store
        self._slots = slots
        self._bucket = bucket

    async def put(
        self, key: str, body: Body, attributes: Attributes, condition: Condition
    ) -> str | None:
        """Store an object in one request."""
        mode: Any = "overwrite"
        if condition.create:
            mode = "create"
        elif condition.is_set:
            mode = {"e_tag": f'"{condition.etag}"'}
        sent: Any = {**attributes.headers(), **attributes.metadata}
        try:
            async with self._slots:
                result = await obstore.put_async(
                    self._store, key, body, attributes=sent, mode=mode, use_multipart=False
                )
        except _FAILURES as exc:
            raise translate(exc, bucket=self._bucket, key=key) from exc
        return bare(result["e_tag"])

    async def get(
        self, key: str, *, start: int, end: int | None, etag: str | None
    ) -> EngineDownload:
        """Begin to read a range."""
        options: dict[str, object] = {}
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"suffix": -start} if start < 0 else {"offset": start}
        if etag is not None:
            options["if_match"] = f'"{etag}"'
        result = await self._request(key, options)
        return EngineDownload(result, self._bucket, key)

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about an object."""
        return _info(await self._request(key, {"head": True}))

    async def _request(self, key: str, options: dict[str, object]) -> "obstore.GetResult":
        given: Any = options
        try:
            async with self._slots:
                return await obstore.get_async(self._store, key, options=given)
        except _FAILURES as exc:
            raise translate(exc, bucket=self._bucket, key=key) from exc

    async def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of what begins with a string, which need not end at a slash.

        The engine lists whole folders, so that the listing starts close before the string and ends
        after it.
        """
        folder, _, rest = prefix.rpartition("/")
        after = max(start_after, f"{folder}/{_before(rest)}" if folder and rest else _before(rest))
        stream = obstore.list(self._store, folder or None, offset=after or None, chunk_size=PAGE)
        while True:
            try:
                async with self._slots:
                    page = await anext(stream)
            except StopAsyncIteration:
                return
            except _FAILURES as exc:
                raise translate(exc, bucket=self._bucket, key=None) from exc
            found = [
                _entry(meta)
                for meta in page
                if meta["path"].startswith(prefix) and meta["path"] > start_after
            ]
            if found:
                yield found
            if _is_past(page[-1]["path"], prefix):
                return

    async def list_level(self, prefix: str) -> tuple[Sequence[CommonPrefix], Sequence[ObjectInfo]]:
        """Return one level of what begins with a string."""
        folder = prefix.rpartition("/")[0]
        try:
            async with self._slots:
                level = await obstore.list_with_delimiter_async(self._store, folder or None)
        except _FAILURES as exc:
            raise translate(exc, bucket=self._bucket, key=None) from exc
        folders = [CommonPrefix(f"{path}/") for path in level["common_prefixes"]]
        objects = [_entry(meta) for meta in level["objects"]]
        return (
            [entry for entry in folders if entry.prefix.startswith(prefix)],
            [entry for entry in objects if entry.key.startswith(prefix)],
        )

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; `NotFound` if the store minds that one was missing."""
        try:
            async with self._slots:
                await obstore.delete_async(self._store, keys)
        except _FAILURES as exc:
            raise translate(
                exc, bucket=self._bucket, key=keys[0] if len(keys) == 1 else None
            ) from exc

    async def copy(self, source: str, target: str) -> None:
        """Copy an object with its attributes."""
        try:
            async with self._slots:
                await obstore.copy_async(self._store, source, target)
        except _FAILURES as exc:
            raise translate(exc, bucket=self._bucket, key=source) from exc


def bare(etag: str | None) -> str | None:
    """Return an ETag without its quotes."""
    return None if etag is None else etag.removeprefix("W/").strip('"')


def _before(rest: str) -> str:
    """Return a string that sorts before everything that begins with ``rest``, and close to it."""
    if not rest or ord(rest[-1]) <= 0x20:
        return rest[:-1]
    return (
        rest[:-1] + chr(ord(rest[-1]) - 1)
        if rest[-1].isascii() and rest[-1].isalnum()
        else rest[:-1]
    )


def _is_past(key: str, prefix: str) -> bool:
    """Tell whether nothing after this key begins with the prefix, by bytes or folder by folder.

    SeaweedFS lists folder by folder ("a/1" before "a-b"), others in the order of the bytes.
    """
    beyond = key > prefix and key.split("/") > prefix.split("/")
    return beyond and not key.startswith(prefix)


def _entry(meta: Any) -> ObjectInfo:
    return ObjectInfo(
        meta["path"], meta["size"], bare(meta["e_tag"]), meta["last_modified"], meta["version"]
    )


def _info(result: "obstore.GetResult") -> ObjectInfo:
    meta, attributes = result.meta, result.attributes
    return ObjectInfo(
        key=meta["path"],
        size=meta["size"],
        etag=bare(meta["e_tag"]),
        last_modified=meta["last_modified"],
        version=meta["version"],
        content_type=attributes.get("Content-Type"),
        cache_control=attributes.get("Cache-Control"),
        content_disposition=attributes.get("Content-Disposition"),
        metadata={name: value for name, value in attributes.items() if name not in _HEADERS},
    )


def translate(exc: Exception, *, bucket: str, key: str | None) -> StorageError:
    """Return our error for one of the engine's."""
    text = str(exc)
    status = _STATUS.search(text)
    if status is not None:
        code, words = xml_error(text)
        return refusal(int(status[1]), code, words, bucket=bucket, key=key)
    where = f"{key!r} in bucket {bucket!r}" if key else f"bucket {bucket!r}"
    known = next((error for kind, error in _KNOWN if isinstance(exc, kind)), None)
    if known is not None:
        return known(f"The store refused {where}: {type(exc).__name__}.", bucket=bucket, key=key)
    if "InvalidRangeRequest" in text or "Wanted range starting" in text:
        return InvalidRange(f"The range lies outside of {where}.", bucket=bucket, key=key)
    return StorageUnavailable(
        f"No answer from the store about {where}: {_reason(text)}", bucket=bucket, key=key
    )


_KNOWN: tuple[tuple[type[Exception], type[StorageError]], ...] = (
    (FileNotFoundError, NotFound),
    (AlreadyExistsError, PreconditionFailed),
    (PreconditionError, PreconditionFailed),
    (PermissionDeniedError, AccessDenied),
    (UnauthenticatedError, AccessDenied),
    (NotSupportedError, Unsupported),
)


def _reason(text: str) -> str:
    """Return the first line of the engine's text without the address, whose query may be signed."""
    first = text.partition("\n")[0]
    return re.sub(r"https?://\S+", "the store", first)[:300]
