# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Storing one object, from a source of any kind and size.

What fits into one request is sent in one; anything longer goes in parts. A stream is read up to
that size before it is decided, so that a small stream costs one request as well.
"""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

from .backends.protocol import Backend, PartLimits
from .content_type import SNIFFED_BYTES, guess_content_type, is_active
from .digests import require_sha256
from .errors import AlreadyExists, PreconditionFailed
from .objects import Attributes, Condition, PutResult
from .sources import InMemory, Streamed, cut
from .upload import Chores, upload_parts

MIB = 1024 * 1024
PART_SIZE = 8 * MIB
SINGLE_REQUEST = 16 * MIB
PARALLEL_PARTS = 4


class PutFields(TypedDict, total=False):
    """The options of `StorageClient.put`."""

    content_type: str | None
    metadata: Mapping[str, str] | None
    cache_control: str | None
    content_disposition: str | None
    if_none_match: Literal["*"] | None
    if_match: str | None
    sha256: str | None
    part_size: int | None


@dataclass(frozen=True, slots=True)
class PutOptions:
    """The same, checked."""

    content_type: str | None
    metadata: Mapping[str, str]
    cache_control: str | None
    content_disposition: str | None
    condition: Condition
    sha256: str | None
    part_size: int | None

    @classmethod
    def of(cls, fields: PutFields) -> "PutOptions":
        """Check options; a ValueError says what is wrong."""
        create, etag = fields.get("if_none_match"), fields.get("if_match")
        if create is not None and etag is not None:
            raise ValueError("Pass if_none_match or if_match, not both.")
        if create not in (None, "*"):
            raise ValueError(
                'if_none_match can only be "*": anything that is there stops the write.'
            )
        return cls(
            fields.get("content_type"),
            fields.get("metadata") or {},
            fields.get("cache_control"),
            fields.get("content_disposition"),
            Condition(create is not None, etag.strip('"') if etag else None),
            fields.get("sha256"),
            fields.get("part_size"),
        )

    def attributes(self, key: str, head: bytes) -> Attributes:
        """Return what is stored beside the bytes; code that a browser would run is made an
        attachment.
        """
        content_type = self.content_type or guess_content_type(key, head)
        disposition = self.content_disposition
        if disposition is None and is_active(content_type):
            disposition = "attachment"
        return Attributes(content_type, self.cache_control, disposition, self.metadata)


class Putter:
    """Stores objects in one backend."""

    def __init__(self, backend: Backend, chores: Chores, *, resume: bool = False) -> None:
        self._backend = backend
        self._chores = chores
        self._resume = resume

    async def put(self, key: str, body: InMemory | Streamed, options: PutOptions) -> PutResult:
        """Store an object; `AlreadyExists` says that ``if_none_match`` did not hold."""
        try:
            if isinstance(body, InMemory):
                return await self._put_bytes(key, body.body, options)
            return await self._put_stream(key, body, options)
        except PreconditionFailed as exc:
            if not options.condition.create:
                raise
            raise AlreadyExists(
                f"There is an object {key!r} in bucket {self._backend.bucket!r} already.",
                bucket=self._backend.bucket,
                key=key,
            ) from exc

    async def _put_bytes(
        self, key: str, body: bytes | memoryview, options: PutOptions
    ) -> PutResult:
        if options.sha256 is not None:
            self._require(key, hashlib.sha256(body).hexdigest(), options.sha256)
        if len(body) > SINGLE_REQUEST:
            size = part_size(options.part_size, len(body), self._backend.parts)
            return await self._in_parts(
                key, _views(memoryview(body), size), options, bytes(body[:SNIFFED_BYTES])
            )
        attributes = options.attributes(key, bytes(body[:SNIFFED_BYTES]))
        etag = await self._backend.put(key, body, attributes, options.condition)
        return PutResult(key, len(body), etag, attributes.content_type)

    async def _put_stream(self, key: str, body: Streamed, options: PutOptions) -> PutResult:
        size = part_size(options.part_size, body.size, self._backend.parts)
        pieces = (
            body.pieces
            if options.sha256 is None
            else self._hashed(key, body.pieces, options.sha256)
        )
        async with contextlib.aclosing(cut(pieces, size)) as parts:
            first = await anext(parts, b"")
            second = await anext(parts, None) if len(first) == size else None
            if second is None and len(first) <= SINGLE_REQUEST:
                attributes = options.attributes(key, first[:SNIFFED_BYTES])
                etag = await self._backend.put(key, first, attributes, options.condition)
                return PutResult(key, len(first), etag, attributes.content_type)
            head = first[:SNIFFED_BYTES]
            return await self._in_parts(
                key, _chained([first, *([second] if second else [])], parts), options, head
            )

    async def _in_parts(
        self, key: str, parts: AsyncIterator[bytes | memoryview], options: PutOptions, head: bytes
    ) -> PutResult:
        attributes = options.attributes(key, head)
        begin = self._backend.resume if self._resume else self._backend.begin
        total = 0

        async def counted() -> AsyncGenerator[bytes | memoryview]:
            nonlocal total
            async for part in parts:
                total += len(part)
                yield part

        async with contextlib.aclosing(counted()) as stream:
            etag = await upload_parts(
                begin(key, attributes, options.condition),
                stream,
                parallel=PARALLEL_PARTS,
                most=self._backend.parts.count,
                chores=self._chores,
                keep=self._resume,
            )
        return PutResult(key, total, etag, attributes.content_type)

    async def _hashed(
        self, key: str, pieces: AsyncIterator[bytes], wanted: str
    ) -> AsyncIterator[bytes]:
        """Pass pieces on, and fail at the end, before anything is visible, if they were not the
        right ones.
        """
        digest = hashlib.sha256()
        async for piece in pieces:
            digest.update(piece)
            yield piece
        self._require(key, digest.hexdigest(), wanted)

    def _require(self, key: str, actual: str, wanted: str) -> None:
        require_sha256(actual, wanted, bucket=self._backend.bucket, key=key)


def part_size(wanted: int | None, total: int | None, limits: PartLimits) -> int:
    """Return the size of parts: the one asked for or 8 MiB, larger if ``total`` bytes need more
    parts than allowed.

    All parts but the last have one size, since some stores insist on that.
    """
    if wanted is not None and not limits.smallest <= wanted <= limits.largest:
        raise ValueError(
            f"part_size must be between {limits.smallest} and {limits.largest} bytes, got {wanted}."
        )
    size = max(wanted or PART_SIZE, limits.smallest)
    needed = -(-(total or 0) // limits.count)
    return size if needed <= size else -(-needed // MIB) * MIB


async def _views(body: memoryview, size: int) -> AsyncIterator[memoryview]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def _chained(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what was read already, letting go of it, and then the rest."""
    while first:
        yield first.pop(0)
    async for part in rest:
        yield part
