# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`StorageClient`: one interface to every store."""

import asyncio
import copy
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack, overload

from . import files
from .access import PublicAccess
from .addresses import Addresses
from .callback import CallbackSigner
from .connection import Connection
from .credentials import CredentialProvider, Credentials
from .digests import check_bytes
from .endpoint import Endpoint
from .errors import AccessDenied, BucketNotFound, NotFound, Unsupported
from .files import Progress
from .keys import normalize_prefix
from .layout import Area, Layout
from .links import PublicLinks
from .objects import CommonPrefix, ObjectInfo, PrefixReport, PutResult
from .put import PutFields, PutOptions, Putter
from .reader import BUFFER, ObjectReader
from .sources import InMemory, Source, Streamed, as_body
from .transport import Transport

_log = logging.getLogger("forktex_core.storage")
_DELETE_BATCH = 10_000
_CHUNK = 1024 * 1024


def _utc_now() -> datetime:
    return datetime.now(UTC)


class StorageClient(Addresses):
    """Objects in one bucket.

    Making one does no I/O; connections open on first use. Close it, or use it as an async context
    manager.

    Args:
        endpoint: ``s3://bucket[/prefix]``, ``gs://…``, ``az://container…``,
            ``file:///folder/bucket`` or ``memory://bucket``. Keys are below the prefix.
        credentials: `S3Credentials`, `GCSCredentials` or `AzureCredentials`, or a function (plain
            or async) that returns them and is asked again before they expire; None for anonymous
            access.
        endpoint_url: the address of a server of your own, such as ``http://minio:9000``.
        region: of the bucket (S3); ``auto`` for R2.
        virtual_hosted: S3's ``bucket.host`` addresses (True) or ``host/bucket`` (False); by default
            the first for AWS and the second for an ``endpoint_url``.
        layout: where things go, see `area`.
        links: how addresses look to the public.
        callback: signs URLs of the service's own domain.
        transport: timeouts, retries and bounds.
        clock_skew: seconds by which clocks may differ: links begin that long before now.
        clock: what time it is, for links (UTC).

    Every operation raises errors of the tree below `StorageError`: `BucketNotFound`, `AccessDenied`
    and `StorageUnavailable` come from all of them, the others from those that say so.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials | CredentialProvider | None = None,
        *,
        endpoint_url: str | None = None,
        region: str = "us-east-1",
        virtual_hosted: bool | None = None,
        layout: Layout | None = None,
        links: PublicLinks | None = None,
        callback: CallbackSigner | None = None,
        transport: Transport | None = None,
        clock_skew: int = 60,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._place = Endpoint.parse(endpoint)
        self._bucket = self._place.bucket
        self._prefix = self._place.prefix
        self._connection = Connection(
            self._place,
            credentials,
            endpoint_url=endpoint_url,
            region=region,
            virtual_hosted=virtual_hosted,
            transport=transport or Transport(),
        )
        self._owner = True
        self._layout = layout or Layout()
        self._layout.check_apart(self._bucket)
        self._area: Area | None = None
        self._links = links or PublicLinks()
        self._callback = callback
        self._skew = timedelta(seconds=clock_skew)
        self._clock = clock

    def __repr__(self) -> str:
        return f"StorageClient('{self._place.scheme}://{self._bucket}/{self._prefix}')"

    # Lifecycle and views

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for uploads that are being aborted, and close; closing twice is fine, closing a view
        does nothing.
        """
        if self._owner:
            await self._connection.close()

    def area(self, purpose: str, /, **values: object) -> "StorageClient":
        """Return a view of this client on an area of the layout: in its bucket, with keys below its
        prefix.

        ``values`` fill the placeholders, such as ``tenant="acme"``. A view closes with its client.
        The first write into a public area opens the area's prefix by the bucket's policy, where the
        store has one.
        """
        area = self._layout.area(purpose)
        prefix = self._place.prefix + area.fill(values)
        return self._view(area.bucket or self._place.bucket, prefix, area)

    def in_bucket(self, bucket: str) -> "StorageClient":
        """Return a view of this client on the whole of another bucket of the same store."""
        return self._view(bucket, "")

    def _view(self, bucket: str, prefix: str, area: Area | None = None) -> "StorageClient":
        view = copy.copy(self)
        vars(view).update(_bucket=bucket, _prefix=prefix, _owner=False, _area=area)
        return view

    # Writing

    async def put(self, key: str, body: Source, **options: Unpack[PutFields]) -> PutResult:
        """Store an object, whole or not at all.

        Args:
            key: its name; `normalize_key` says what is refused.
            body: bytes, str (stored as UTF-8), a binary file (plain or async), or an iterator of
                bytes (plain or async). More than 16 MiB are sent in parts, four at a time.
            content_type: looked up in the bytes and the name if None.
            metadata: small values of your own; names in lower case with underscores, values
                in ASCII.
            cache_control: the Cache-Control header that readers get.
            content_disposition: the Content-Disposition header that readers get; ``attachment`` if
                None for types in which a browser runs code (HTML, SVG, XML, JavaScript).
            if_none_match: ``"*"`` to store only if there is nothing, else `AlreadyExists`.
            if_match: an ETag, to replace exactly that object, else `PreconditionFailed`.
            sha256: the hex digest that the body must have, else `ChecksumMismatch` and nothing is
                stored.
            part_size: bytes of each part, 8 MiB by default.

        Every request carries a digest of its bytes that the store checks. A failed or cancelled
        call aborts its upload before it returns. `TooLarge` if a stream of unknown length outgrows
        the number of parts.
        """
        return await self._put(key, as_body(body), options)

    async def _put(
        self, key: str, body: InMemory | Streamed, options: PutFields, *, resume: bool = False
    ) -> PutResult:
        name, checked = self._key(key), PutOptions.of(options)
        if self._area is not None and self._area.access is not PublicAccess.none:
            await self._connection.once(f"{self._bucket}\n{self._area.purpose}", self._open_area)
        putter = Putter(self._backend, self._connection.chores, resume=resume)
        result = await putter.put(name, body, checked)
        return PutResult(
            name.removeprefix(self._prefix), result.size, result.etag, result.content_type
        )

    async def upload_file(
        self,
        path: str | Path,
        key: str,
        *,
        resume: bool = False,
        progress: Progress | None = None,
        **options: Unpack[PutFields],
    ) -> PutResult:
        """Store a local file, with the options of `put`.

        With ``resume``, an upload that fails, is cancelled or dies with its process leaves its
        parts in the store, and the next call with ``resume`` for this key goes on with them: parts
        with the same bytes are not sent again. Content type, headers and metadata stay those of
        the first call. Parts that nobody comes back for are paid for until `cleanup_uploads`.

        ``progress(done, total)``, plain or async, is called with bytes as they are taken up.
        """
        source = Path(path)
        size = (await asyncio.to_thread(source.stat)).st_size
        async with aclosing(files.read_file(source, size, progress)) as pieces:
            return await self._put(key, Streamed(pieces, size), options, resume=resume)

    async def copy(
        self, source: str, target: str, *, if_none_match: Literal["*"] | None = None
    ) -> None:
        """Copy an object with its attributes, inside the store where it can.

        With ``if_none_match="*"``, or beyond what the store copies by itself (5 GiB for S3), the
        bytes pass through this process. Raises `NotFound`, and `AlreadyExists` by the condition.
        """
        limit = self._backend.max_copy_bytes
        source_key, target_key = self._key(source), self._key(target)
        if if_none_match is None and (
            limit is None or (await self._backend.head(source_key)).size <= limit
        ):
            await self._backend.copy(source_key, target_key)
            return
        download = await self._backend.get(source_key)
        info = download.info
        async with aclosing(download.chunks(_CHUNK)) as pieces:
            await self._put(
                target,
                Streamed(pieces, info.size),
                {
                    "content_type": info.content_type,
                    "metadata": info.metadata,
                    "cache_control": info.cache_control,
                    "content_disposition": info.content_disposition,
                    "if_none_match": if_none_match,
                },
            )

    async def move(
        self, source: str, target: str, *, if_none_match: Literal["*"] | None = None
    ) -> None:
        """Copy, then delete the source: killed in between, both are there. Else like `copy`."""
        if self._key(source) == self._key(target):
            await self.head(source)
            return
        await self.copy(source, target, if_none_match=if_none_match)
        await self.delete(source)

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        await self._backend.delete([self._key(key)])

    async def delete_many(self, keys: Iterable[str] | AsyncIterable[str]) -> None:
        """Delete objects with few requests; those that are not there are no error."""
        batch: list[str] = []
        if isinstance(keys, AsyncIterable):
            async for key in keys:
                batch.append(self._key(key))
                if len(batch) == _DELETE_BATCH:
                    await self._backend.delete(batch)
                    batch = []
        else:
            batch = [self._key(key) for key in keys]
        for start in range(0, len(batch), _DELETE_BATCH):
            await self._backend.delete(batch[start : start + _DELETE_BATCH])

    async def delete_prefix(self, prefix: str, *, dry_run: bool = False) -> PrefixReport:
        """Delete everything whose key begins with ``prefix``, page by page; report how much it was.

        With ``dry_run`` nothing is deleted. An empty prefix is refused unless this is a view on an
        area.
        """
        if not prefix and self._area is None:
            raise ValueError(
                "delete_prefix('') would empty the bucket: give a prefix, or use it on an area."
            )
        objects = size = 0
        async for page in self._backend.list(self._prefix + normalize_prefix(prefix), ""):
            objects += len(page)
            size += sum(info.size for info in page)
            if not dry_run:
                await self._backend.delete([info.key for info in page])
        return PrefixReport(objects, size, dry_run)

    # Reading

    async def get(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str | None = None,
        verify: bool = False,
    ) -> bytes:
        """Return an object, or its bytes from ``start`` to before ``end`` (a negative ``start``:
        that many last ones).

        ``if_match`` is an ETag. ``verify`` compares the whole object with the digest that the store
        keeps of it, at the price of one or two requests. Raises `NotFound`, `InvalidRange`,
        `PreconditionFailed`, `TruncatedBody`, `ChecksumMismatch`, and `Unsupported` if there is no
        digest to verify with.
        """
        name = self._key(key)
        etag = if_match.strip('"') if if_match else None
        download = await self._backend.get(name, start=start, end=end, etag=etag)
        body = await download.read()
        if verify:
            await self._verify(name, body, whole=not start and end is None)
        return body

    async def _verify(self, key: str, body: bytes, *, whole: bool) -> None:
        if not whole:
            raise ValueError("verify= needs the whole object: a range has no digest.")
        digest = await self._backend.digest(key)
        if digest is None:
            raise Unsupported(
                f"The store keeps no digest of {key!r} to verify with.",
                bucket=self._bucket,
                key=key,
            )
        check_bytes(body, digest, bucket=self._bucket, key=key)

    async def stream(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str | None = None,
        chunk_size: int = _CHUNK,
    ) -> AsyncIterator[bytes]:
        """Yield an object, or a range as in `get`, in pieces of about ``chunk_size`` bytes, of one
        version.
        """
        etag = if_match.strip('"') if if_match else None
        download = await self._backend.get(self._key(key), start=start, end=end, etag=etag)
        async for piece in download.chunks(chunk_size):
            yield piece

    async def open(self, key: str, *, buffer: int = BUFFER) -> ObjectReader:
        """Return an asynchronous file over an object that fetches what is read, ``buffer`` bytes
        ahead.
        """
        return ObjectReader(self._backend, await self._backend.head(self._key(key)), buffer=buffer)

    async def head(self, key: str) -> ObjectInfo:
        """Return size, ETag, times, headers and metadata of an object; raises `NotFound`."""
        return self._shown(await self._backend.head(self._key(key)))

    async def exists(self, key: str) -> bool:
        """Tell whether there is an object under this key."""
        try:
            await self._backend.head(self._key(key))
        except NotFound:
            return False
        return True

    @overload
    def list(
        self, prefix: str = "", *, delimiter: None = None, start_after: str = ""
    ) -> AsyncIterator[ObjectInfo]: ...

    @overload
    def list(
        self, prefix: str = "", *, delimiter: Literal["/"], start_after: str = ""
    ) -> AsyncIterator[ObjectInfo | CommonPrefix]: ...

    async def list(
        self, prefix: str = "", *, delimiter: Literal["/"] | None = None, start_after: str = ""
    ) -> AsyncIterator[ObjectInfo | CommonPrefix]:
        """Yield the objects whose keys begin with ``prefix`` and sort after ``start_after``, in
        their order.

        With ``delimiter="/"``, what lies deeper is folded into one `CommonPrefix` for each
        "folder"; those come first.
        """
        begin = self._prefix + normalize_prefix(prefix)
        after = self._prefix + normalize_prefix(start_after) if start_after else ""
        if delimiter is None:
            async for page in self._backend.list(begin, after):
                for info in page:
                    yield self._shown(info)
            return
        if delimiter != "/":
            raise ValueError('delimiter can only be "/".')
        folders, objects = await self._backend.list_level(begin)
        for folder in folders:
            if folder.prefix > after:
                yield CommonPrefix(folder.prefix.removeprefix(self._prefix))
        for info in objects:
            if info.key > after:
                yield self._shown(info)

    async def download_file(
        self, key: str, path: str | Path, *, resume: bool = True, progress: Progress | None = None
    ) -> ObjectInfo:
        """Bring an object into a local file, which appears whole or not at all.

        An interrupted download is resumed by the next call if the object is still the same. The
        bytes are verified if the store keeps a digest. ``progress(done, total)``, plain or async,
        is called with bytes.
        """
        info = await self._backend.head(self._key(key))
        await files.download(self._backend, info, Path(path), resume=resume, progress=progress)
        return self._shown(info)

    # The bucket

    async def create_bucket(self) -> None:
        """Create the bucket; one that is there is no error. Nothing else ever creates one."""
        await self._backend.create_bucket()

    async def bucket_exists(self) -> bool:
        """Tell whether the bucket is there."""
        return await self._backend.bucket_exists()

    async def cleanup_uploads(
        self, *, older_than: timedelta = timedelta(days=1), prefix: str = ""
    ) -> int:
        """Abort multipart uploads that were begun so long ago and never ended; return how many.

        They are what killed processes and lost servers leave behind: invisible, and paid for.
        Choose ``older_than`` longer than your slowest upload takes.
        """
        if not await self._backend.bucket_exists():
            raise BucketNotFound(f"There is no bucket {self._bucket!r}.", bucket=self._bucket)
        limit = datetime.now(UTC) - older_than
        aborted = 0
        async for pending in self._backend.pending_uploads(self._prefix + normalize_prefix(prefix)):
            if pending.started <= limit:
                await self._backend.abort_upload(pending)
                aborted += 1
        return aborted

    async def set_public(self, prefix: str, access: PublicAccess) -> None:
        """Set what everybody may do, without a signature, with all that begins with ``prefix``.

        Writes the bucket policy and keeps statements of others. `Unsupported` where the store has
        no such policy.
        """
        await self._backend.set_public(self._prefix + normalize_prefix(prefix), access)

    async def apply_layout(self) -> None:
        """Open the public areas of the layout, as the first write into each would do, but with
        every error raised.
        """
        for area in self._layout.areas.values():
            if area.access is not PublicAccess.none:
                bucket = area.bucket or self._place.bucket
                await self._connection.backend(bucket).set_public(
                    self._place.prefix + area.fixed, area.access
                )

    async def _open_area(self) -> None:
        area = self._area
        if area is None:
            return
        try:
            await self._backend.set_public(self._place.prefix + area.fixed, area.access)
        except (AccessDenied, Unsupported) as error:
            _log.warning(
                "Area %r could not be made public by policy (is_public tells): %s",
                area.purpose,
                error,
            )

    async def is_public(self, key: str) -> bool:
        """Find out, by asking the store without credentials, whether everybody can read an object.

        Raises `NotFound` if there is none.
        """
        return await self._backend.is_public(self._key(key))
