# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Objects in this process's memory, for tests: the same behaviour as a store, and gone with the
client.
"""

import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from forktex_core.storage.access import PublicAccess
from forktex_core.storage.errors import InvalidRange, NotFound, PreconditionFailed
from forktex_core.storage.objects import (
    Attributes,
    CommonPrefix,
    Condition,
    Digest,
    ObjectInfo,
    PendingUpload,
)
from forktex_core.storage.refusals import missing_bucket

from .protocol import Body, LinkRequest, PartLimits, SignedURL, unsupported


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, whole."""

    info: ObjectInfo
    body: bytes


type Bucket = dict[str, Stored]
PAGE = 1000


class MemoryDownload:
    """A range of an object that was found."""

    def __init__(self, stored: Stored, start: int, stop: int) -> None:
        self.info = stored.info
        self.start, self.length = start, stop - start
        self._body = stored.body[start:stop]

    async def read(self) -> bytes:
        """Return all of it."""
        return self._body

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:
        """Yield it in pieces."""
        for offset in range(0, self.length, size):
            yield self._body[offset : offset + size]


class MemoryBackend:
    """One bucket of a dictionary of buckets that the clients of one connection share."""

    scheme = "memory"
    parts = PartLimits(smallest=1, largest=2**40, count=10_000)
    max_link_seconds = 0
    max_copy_bytes = None

    def __init__(self, bucket: str, buckets: MutableMapping[str, Bucket]) -> None:
        self.bucket = bucket
        self._buckets = buckets
        self.uploads: dict[str, PendingUpload] = {}

    def _objects(self, key: str | None) -> Bucket:
        try:
            return self._buckets[self.bucket]
        except KeyError:
            raise missing_bucket(self.bucket, key) from None

    def _find(self, key: str) -> Stored:
        found = self._objects(key).get(key)
        if found is None:
            raise NotFound(
                f"There is no object {key!r} in bucket {self.bucket!r}.",
                bucket=self.bucket,
                key=key,
            )
        return found

    async def put(
        self, key: str, body: Body, attributes: Attributes, condition: Condition
    ) -> str | None:
        """Store an object."""
        objects = self._objects(key)
        check_condition(
            condition,
            objects[key].info.etag if key in objects else None,
            bucket=self.bucket,
            key=key,
        )
        content = bytes(body)
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        objects[key] = Stored(new_info(key, len(content), etag, attributes), content)
        return etag

    async def begin(self, key: str, attributes: Attributes, condition: Condition) -> "MemoryUpload":
        """Begin to collect parts."""
        self._objects(key)
        return MemoryUpload(self, key, attributes, condition)

    async def resume(
        self, key: str, attributes: Attributes, condition: Condition
    ) -> "MemoryUpload":
        """Begin anew, in the place of what was begun before: nothing is saved by keeping parts."""
        for pending in [found for found in self.uploads.values() if found.key == key]:
            await self.abort_upload(pending)
        return await self.begin(key, attributes, condition)

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> MemoryDownload:
        """Read a range."""
        stored = self._find(key)
        if etag is not None:
            check_condition(Condition(etag=etag), stored.info.etag, bucket=self.bucket, key=key)
        return MemoryDownload(stored, *resolve_range(stored.info, start, end, bucket=self.bucket))

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known."""
        return self._find(key).info

    async def digest(self, key: str) -> Digest | None:
        """Return the SHA-256 of what is there."""
        return Digest("sha256", sha256(self._find(key).body).digest())

    async def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages."""
        objects = self._objects(None)
        found = [
            objects[key].info
            for key in sorted(objects)
            if key.startswith(prefix) and key > start_after
        ]
        for start in range(0, len(found), PAGE):
            yield [listed(info) for info in found[start : start + PAGE]]

    async def list_level(self, prefix: str) -> tuple[Sequence[CommonPrefix], Sequence[ObjectInfo]]:
        """Return one level."""
        objects = self._objects(None)
        return fold(
            prefix, [listed(objects[key].info) for key in sorted(objects) if key.startswith(prefix)]
        )

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget objects."""
        objects = self._objects(keys[0])
        for key in keys:
            objects.pop(key, None)

    async def copy(self, source: str, target: str) -> None:
        """Copy with attributes."""
        stored = self._find(source)
        info = stored.info._replace(key=target, last_modified=datetime.now(UTC))
        self._objects(target)[target] = Stored(info, stored.body)

    async def bucket_exists(self) -> bool:
        """Tell whether it was created."""
        return self.bucket in self._buckets

    async def create_bucket(self) -> None:
        """Create it."""
        self._buckets.setdefault(self.bucket, {})

    async def pending_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        """Yield what was begun and not ended."""
        for pending in list(self.uploads.values()):
            if pending.key.startswith(prefix):
                yield pending

    async def abort_upload(self, pending: PendingUpload) -> None:
        """Forget it."""
        self.uploads.pop(pending.upload_id, None)

    async def set_public(self, prefix: str, access: PublicAccess) -> None:
        """Refuse: nobody else can reach this memory."""
        raise unsupported(
            self.scheme,
            f"open {prefix!r} ({access})",
            "serve it by callback_url()",
            bucket=self.bucket,
        )

    async def is_public(self, key: str) -> bool:
        """Nobody else can reach this memory."""
        await self.head(key)
        return False

    async def sign(self, link: LinkRequest, endpoint_url: str | None) -> SignedURL:
        """Refuse: there is no server to show the URL to."""
        raise no_links(self.scheme, link, endpoint_url, bucket=self.bucket)

    def url(self, key: str, endpoint_url: str | None) -> str:
        """Refuse: there is no server."""
        raise no_address(self.scheme, endpoint_url, bucket=self.bucket, key=key)

    async def close(self) -> None:
        """Nothing is open."""


class MemoryUpload:
    """Parts on their way to an object."""

    def __init__(
        self, backend: MemoryBackend, key: str, attributes: Attributes, condition: Condition
    ) -> None:
        self._backend = backend
        self._key, self._attributes, self._condition = key, attributes, condition
        self._parts: dict[int, bytes] = {}
        self._id = secrets.token_hex(8)
        backend.uploads[self._id] = PendingUpload(key, self._id, datetime.now(UTC))

    async def part(self, number: int, data: Body) -> None:
        """Keep one part."""
        self._parts[number] = bytes(data)

    async def complete(self) -> str | None:
        """Make the object."""
        body = b"".join(self._parts[number] for number in sorted(self._parts))
        etag = await self._backend.put(self._key, body, self._attributes, self._condition)
        self._backend.uploads.pop(self._id, None)
        return etag

    async def abort(self) -> None:
        """Forget the parts."""
        self._parts.clear()
        self._backend.uploads.pop(self._id, None)


def new_info(key: str, size: int, etag: str, attributes: Attributes) -> ObjectInfo:
    """Return what is known about an object stored just now."""
    return ObjectInfo(
        key, size, etag, datetime.now(UTC), None, attributes.content_type, attributes.cache_control,
        attributes.content_disposition, dict(attributes.metadata),
    )  # fmt: skip


def listed(info: ObjectInfo) -> ObjectInfo:
    """Return what a listing says about an object."""
    return ObjectInfo(info.key, info.size, info.etag, info.last_modified, info.version)


def check_condition(condition: Condition, etag: str | None, *, bucket: str, key: str) -> None:
    """Raise `PreconditionFailed` unless a write may replace what has this ETag (None: nothing)."""
    if (condition.create and etag is not None) or (
        condition.etag is not None and condition.etag != etag
    ):
        raise PreconditionFailed(
            f"The object {key!r} in bucket {bucket!r} is not as the condition demands.",
            bucket=bucket,
            key=key,
        )


def resolve_range(info: ObjectInfo, start: int, end: int | None, *, bucket: str) -> tuple[int, int]:
    """Return the offsets of a range within an object, as HTTP would."""
    if start < 0:
        return max(info.size + start, 0), info.size
    if (start and start >= info.size) or (end is not None and end <= start):
        raise InvalidRange(
            f"The range {start}-{end} lies outside of {info.key!r} ({info.size} bytes).",
            bucket=bucket,
            key=info.key,
        )
    return start, info.size if end is None else min(end, info.size)


def fold(prefix: str, entries: Sequence[ObjectInfo]) -> tuple[list[CommonPrefix], list[ObjectInfo]]:
    """Fold a listing at the next slash after the prefix's last one."""
    depth = len(prefix.rpartition("/")[0]) + 1 if "/" in prefix else 0
    folders: dict[str, None] = {}
    objects: list[ObjectInfo] = []
    for entry in entries:
        head, slash, _ = entry.key[depth:].partition("/")
        if slash:
            folders[f"{entry.key[:depth]}{head}/"] = None
        else:
            objects.append(entry)
    return [CommonPrefix(folder) for folder in folders], objects


def no_links(scheme: str, link: LinkRequest, endpoint_url: str | None, *, bucket: str) -> Exception:
    """Return the error for a store that no browser can reach."""
    what = f"sign a URL ({link.access}{', for ' + endpoint_url if endpoint_url else ''})"
    return unsupported(
        scheme,
        what,
        "pass callback= and let signed_url() or callback_url() serve it",
        bucket=bucket,
        key=link.key,
    )


def no_address(scheme: str, endpoint_url: str | None, *, bucket: str, key: str) -> Exception:
    """Return the error for an address that does not exist."""
    what = "give an address" + (f" below {endpoint_url}" if endpoint_url else "")
    return unsupported(scheme, what, "map it with PublicLinks", bucket=bucket, key=key)
