# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``file://``: a folder as a bucket, behind the same protocol as the stores. The blocking part is
``folder``.
"""

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO

from forktex_core.storage.access import PublicAccess
from forktex_core.storage.errors import TruncatedBody
from forktex_core.storage.objects import (
    Attributes,
    CommonPrefix,
    Condition,
    Digest,
    ObjectInfo,
    PendingUpload,
)

from .folder import OWN, Folder
from .memory import PAGE, check_condition, fold, listed, no_address, no_links, resolve_range
from .protocol import Body, LinkRequest, PartLimits, SignedURL, unsupported
from .xml_upload import newest


class FileDownload:
    """A range of an open file; it is closed when it was read, or when this object goes."""

    def __init__(self, file: IO[bytes], info: ObjectInfo, start: int, stop: int) -> None:
        self.info = info
        self.start, self.length = start, stop - start
        self._file = file

    async def read(self) -> bytes:
        """Return all of it."""
        return b"".join([piece async for piece in self.chunks(max(self.length, 1))])

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:
        """Yield it in pieces."""
        left = self.length
        with self._file as file:
            await asyncio.to_thread(file.seek, self.start)
            while left:
                piece = await asyncio.to_thread(file.read, min(size, left))
                if not piece:
                    raise TruncatedBody(
                        f"{self.info.key!r} was cut while it was read.", key=self.info.key
                    )
                left -= len(piece)
                yield piece

    def __del__(self) -> None:
        self._file.close()


class FileBackend:
    """One folder."""

    scheme = "file"
    parts = PartLimits(smallest=1, largest=2**50, count=1_000_000)
    max_link_seconds = 0
    max_copy_bytes = None

    def __init__(self, bucket: str, root: str) -> None:
        self.bucket = bucket
        self.folder = Folder(Path(root) / bucket)

    async def put(
        self, key: str, body: Body, attributes: Attributes, condition: Condition
    ) -> str | None:
        """Store an object."""
        return await asyncio.to_thread(self.folder.write, key, body, attributes, condition)

    async def begin(self, key: str, attributes: Attributes, condition: Condition) -> "FileUpload":
        """Begin to collect parts."""
        return await asyncio.to_thread(FileUpload, self.folder, key, attributes, condition)

    async def resume(self, key: str, attributes: Attributes, condition: Condition) -> "FileUpload":
        """Collect parts where the last upload was left."""
        found = await newest(self.pending_uploads(key), key)
        return await asyncio.to_thread(FileUpload, self.folder, key, attributes, condition, found)

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> FileDownload:
        """Open a range."""
        file, info = await asyncio.to_thread(self.folder.open, key)
        try:
            if etag is not None:
                check_condition(Condition(etag=etag), info.etag, bucket=self.bucket, key=key)
            return FileDownload(file, info, *resolve_range(info, start, end, bucket=self.bucket))
        except BaseException:
            file.close()
            raise

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known."""
        return await asyncio.to_thread(self.folder.info, key)

    async def digest(self, key: str) -> Digest | None:
        """Return the SHA-256 that was noted when the object was stored."""
        await self.head(key)
        noted = await asyncio.to_thread(self.folder.digest, key)
        return Digest("sha256", noted) if noted else None

    async def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages."""
        walk = self.folder.walk(prefix, start_after)
        while page := await asyncio.to_thread(lambda: list(islice(walk, PAGE))):
            yield [listed(info) for info in page]

    async def list_level(self, prefix: str) -> tuple[Sequence[CommonPrefix], Sequence[ObjectInfo]]:
        """Return one level."""
        entries = await asyncio.to_thread(
            lambda: [listed(info) for info in self.folder.walk(prefix, "")]
        )
        return fold(prefix, entries)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove files."""
        for key in keys:
            await asyncio.to_thread(self.folder.delete, key)

    async def copy(self, source: str, target: str) -> None:
        """Copy a file."""
        await asyncio.to_thread(self.folder.copy, source, target)

    async def bucket_exists(self) -> bool:
        """Tell whether the folder is there."""
        return await asyncio.to_thread(self.folder.exists)

    async def create_bucket(self) -> None:
        """Make the folder."""
        await asyncio.to_thread(self.folder.create)

    async def pending_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        """Yield what was begun and not ended, also by processes that died."""
        for note in await asyncio.to_thread(lambda: sorted(self._uploads().glob("*/upload.json"))):
            try:
                begun = json.loads(note.read_text())
            except (FileNotFoundError, ValueError):
                continue
            if begun["key"].startswith(prefix):
                started = datetime.fromisoformat(begun["started"])
                yield PendingUpload(begun["key"], note.parent.name, started)

    def _uploads(self) -> Path:
        return self.folder.path / OWN / "uploads"

    async def abort_upload(self, pending: PendingUpload) -> None:
        """Remove its parts."""
        await asyncio.to_thread(
            shutil.rmtree, self._uploads() / pending.upload_id, ignore_errors=True
        )

    async def set_public(self, prefix: str, access: PublicAccess) -> None:
        """Refuse: a folder has no policy."""
        raise unsupported(
            self.scheme,
            f"open {prefix!r} ({access})",
            "serve it by callback_url()",
            bucket=self.bucket,
        )

    async def is_public(self, key: str) -> bool:
        """Nobody else can reach this folder through us."""
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


class FileUpload:
    """Parts as files, joined at the end."""

    def __init__(
        self,
        folder: Folder,
        key: str,
        attributes: Attributes,
        condition: Condition,
        found: str | None = None,
    ) -> None:
        folder.require(key)
        folder.file(key)
        self._folder, self._key = folder, key
        self._attributes, self._condition = attributes, condition
        self._path = folder.path / OWN / "uploads" / (found or secrets.token_hex(8))
        self._numbers: set[int] = set()
        if found is not None:
            return
        self._path.mkdir(parents=True)
        note = {"key": key, "started": datetime.now(UTC).isoformat()}
        (self._path / "upload.json").write_text(json.dumps(note))

    async def part(self, number: int, data: Body) -> None:
        """Write one part, over what an interrupted upload left of it."""
        await asyncio.to_thread(self._part(number).write_bytes, data)
        self._numbers.add(number)

    def _part(self, number: int) -> Path:
        return self._path / f"{number:07d}.part"

    async def complete(self) -> str | None:
        """Join the parts and make them the object."""
        return await asyncio.to_thread(self._join)

    def _join(self) -> str:
        scratch = self._folder.scratch()
        with scratch.open("wb") as joined:
            for number in sorted(self._numbers):
                with self._part(number).open("rb") as file:
                    shutil.copyfileobj(file, joined, 1024 * 1024)
        etag = self._folder.hash(scratch)
        self._folder.publish(self._key, scratch, etag, self._attributes, self._condition)
        shutil.rmtree(self._path, ignore_errors=True)
        return etag

    async def abort(self) -> None:
        """Remove the parts."""
        await asyncio.to_thread(shutil.rmtree, self._path, ignore_errors=True)
