# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a kind of store has to do for a `StorageClient`, and nothing more.

A backend serves one bucket. Keys arrive normalised and with their prefix. Every method raises only
errors of ``errors``; what the store lacks raises `Unsupported`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from forktex_core.storage.access import PublicAccess
from forktex_core.storage.errors import Unsupported
from forktex_core.storage.objects import (
    Attributes,
    CommonPrefix,
    Condition,
    Digest,
    ObjectInfo,
    PendingUpload,
)

type Body = bytes | memoryview


@dataclass(frozen=True, slots=True)
class PartLimits:
    """How a store wants its multipart uploads: part sizes in bytes."""

    smallest: int
    largest: int
    count: int


class Upload(Protocol):
    """A multipart upload that was begun. Nothing of it is visible before ``complete``."""

    async def part(self, number: int, data: Body) -> None:
        """Store one part (numbers from 1, any order, at the same time)."""

    async def complete(self) -> str | None:
        """Make the object of all parts, if its condition holds; return its ETag."""

    async def abort(self) -> None:
        """Discard all parts; also right after a failed ``complete``."""


class Download(Protocol):
    """An object, or a range of it, that is on its way: all of it is from one version."""

    @property
    def info(self) -> ObjectInfo:
        """The object; to be asked for before its bytes."""

    @property
    def start(self) -> int:
        """The offset of the first byte."""

    @property
    def length(self) -> int:
        """How many bytes there will be."""

    async def read(self) -> bytes:
        """Return all of them."""

    def chunks(self, size: int) -> AsyncGenerator[bytes]:
        """Yield them in pieces of about ``size`` bytes."""


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """What a signed URL has to allow."""

    key: str
    access: PublicAccess
    begins: datetime
    expires: datetime
    content_type: str | None = None
    content_disposition: str | None = None
    max_bytes: int | None = None

    @property
    def overrides(self) -> dict[str, str]:
        """The query parameters that set headers of the answer, as S3 and Google name them."""
        pairs = (
            ("response-content-disposition", self.content_disposition),
            ("response-content-type", self.content_type),
        )
        return {name: value for name, value in pairs if value is not None}


class SignedURL(str):
    """A URL that carries its own permission.

    It is a plain ``str``. ``method`` says how to use it, ``headers`` what a PUT must send besides
    its body, ``fields`` what the form of a browser upload (POST) must hold before its ``file``.
    """

    __slots__ = ("expires_at", "fields", "headers", "method")

    method: str
    headers: dict[str, str]
    fields: dict[str, str]
    expires_at: datetime

    def __new__(
        cls,
        url: str,
        *,
        method: str,
        expires_at: datetime,
        headers: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
    ) -> Self:
        """Make one of a URL."""
        self = super().__new__(cls, url)
        self.method, self.expires_at = method, expires_at
        self.headers, self.fields = headers or {}, fields or {}
        return self


class Backend(Protocol):
    """One bucket of one store."""

    @property
    def scheme(self) -> str:
        """``s3``, ``gs``, ``az``, ``file`` or ``memory``."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""

    @property
    def parts(self) -> PartLimits:
        """How multipart uploads must be cut."""

    @property
    def max_link_seconds(self) -> int:
        """The longest life of a signed URL; 0 where there is none."""

    @property
    def max_copy_bytes(self) -> int | None:
        """The largest object that the store copies by itself, None without a limit."""

    async def put(
        self, key: str, body: Body, attributes: Attributes, condition: Condition
    ) -> str | None:
        """Store an object in one request, verified by a digest; return its ETag."""

    async def begin(self, key: str, attributes: Attributes, condition: Condition) -> Upload:
        """Begin a multipart upload, whose completion the condition is about."""

    async def resume(self, key: str, attributes: Attributes, condition: Condition) -> Upload:
        """Go on with the upload of this key that was begun last and never ended, else begin one.

        A part that the store has already, with these bytes, is not sent again.
        """

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> Download:
        """Begin to read from ``start`` (negative: that many last bytes) to before ``end``, only if
        it is ``etag``.
        """

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about an object."""

    async def digest(self, key: str) -> Digest | None:
        """Return the digest that the store keeps of an object, if it keeps one."""

    def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of objects in the order of their keys."""

    async def list_level(self, prefix: str) -> tuple[Sequence[CommonPrefix], Sequence[ObjectInfo]]:
        """Return what begins with ``prefix``, folded at the next slash."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error."""

    async def copy(self, source: str, target: str) -> None:
        """Copy an object with its attributes within the bucket."""

    async def create_bucket(self) -> None:
        """Create the bucket; one that is there is no error."""

    async def bucket_exists(self) -> bool:
        """Tell whether the bucket is there."""

    def pending_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        """Yield the multipart uploads that are neither completed nor aborted."""

    async def abort_upload(self, pending: PendingUpload) -> None:
        """Discard one of them."""

    async def set_public(self, prefix: str, access: PublicAccess) -> None:
        """Let everybody do this with what begins with ``prefix``, and nothing else."""

    async def is_public(self, key: str) -> bool:
        """Find out, by asking without credentials, whether everybody can read an object."""

    async def sign(self, link: LinkRequest, endpoint_url: str | None) -> SignedURL:
        """Return a signed URL, for the name under which its user reaches the store."""

    def url(self, key: str, endpoint_url: str | None) -> str:
        """Return the address of an object without any permission."""

    async def close(self) -> None:
        """Let go of connections and files."""


def unsupported(
    scheme: str, what: str, instead: str, *, bucket: str, key: str | None = None
) -> Unsupported:
    """Return the error for what a backend lacks."""
    return Unsupported(f"{scheme}:// cannot {what}; {instead}.", bucket=bucket, key=key)
