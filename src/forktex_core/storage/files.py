# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Objects to and from local files.

Protocol of a download. The bytes go to a file beside the target whose name carries the object's
ETag, and each request asks for exactly that ETag; an interrupted download goes on at the length of
that file, and never mixes two versions. When all is there, the digest of the store is checked (if
it keeps one), the file is flushed to the disk and moved over the target.
"""

import asyncio
import hashlib
import inspect
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import IO

from .backends.protocol import Backend
from .digests import check_file
from .errors import ChecksumMismatch
from .objects import ObjectInfo

type Progress = Callable[[int, int], object | Awaitable[object]]

_CHUNK = 1024 * 1024


async def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell a progress callback, in a thread if it is a plain function."""
    if progress is None:
        return
    if inspect.iscoroutinefunction(progress):
        await progress(done, total)
    else:
        await asyncio.to_thread(progress, done, total)


async def read_file(path: Path, total: int, progress: Progress | None) -> AsyncGenerator[bytes]:
    """Yield a file in pieces and report each as soon as the upload has taken it."""
    done = 0
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while piece := await asyncio.to_thread(file.read, _CHUNK):
            yield piece
            done += len(piece)
            await report(progress, done, total)


async def download(
    backend: Backend, info: ObjectInfo, path: Path, *, resume: bool, progress: Progress | None
) -> None:
    """Bring an object into a file."""
    partial = _partial(path, info)
    await asyncio.to_thread(_discard, path, partial if resume else None)
    file = await asyncio.to_thread(partial.open, "ab")
    with file:
        await _fetch(backend, info, file, progress)
    await _verify(backend, info, partial)
    await asyncio.to_thread(os.replace, partial, path)


async def _fetch(
    backend: Backend, info: ObjectInfo, file: IO[bytes], progress: Progress | None
) -> None:
    done = file.tell()
    if done < info.size:
        body = await backend.get(info.key, start=done, etag=info.etag)
        async for piece in body.chunks(_CHUNK):
            await asyncio.to_thread(file.write, piece)
            done += len(piece)
            await report(progress, done, info.size)
    await asyncio.to_thread(_flush, file)


async def _verify(backend: Backend, info: ObjectInfo, partial: Path) -> None:
    digest = await backend.digest(info.key)
    if digest is None or (await backend.head(info.key)).etag != info.etag:
        return  # nothing to compare with, or the digest of a newer version
    try:
        await asyncio.to_thread(check_file, partial, digest, bucket=backend.bucket, key=info.key)
    except ChecksumMismatch:
        await asyncio.to_thread(partial.unlink, missing_ok=True)
        raise


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _partial(path: Path, info: ObjectInfo) -> Path:
    version = hashlib.sha256(f"{info.key}\n{info.etag}\n{info.size}".encode()).hexdigest()[:16]
    return path.with_name(f".{path.name}.{version}.part")


def _discard(path: Path, keep: Path | None) -> None:
    """Remove what was left of downloads of other versions."""
    for partial in path.parent.glob(f".{_literal(path.name)}.????????????????.part"):
        if partial != keep:
            partial.unlink(missing_ok=True)


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
