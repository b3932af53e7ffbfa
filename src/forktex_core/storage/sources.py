# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can be stored: bytes, text, files, iterators, brought into parts of one size."""

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import IO, Protocol


class AsyncReadable(Protocol):
    """An asynchronous file, such as one of aiofiles or anyio, or an upload of a web framework."""

    async def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""


type Source = (
    bytes
    | bytearray
    | memoryview
    | str
    | IO[bytes]
    | AsyncReadable
    | AsyncIterable[bytes]
    | Iterable[bytes]
)

_READ = 1024 * 1024


@dataclass(frozen=True, slots=True)
class InMemory:
    """A body that is there whole."""

    body: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Streamed:
    """A body that comes in pieces of any size; ``size`` in bytes if it is known."""

    pieces: AsyncIterator[bytes]
    size: int | None


def as_body(source: Source) -> InMemory | Streamed:
    """Tell what kind of source it is; a `TypeError` names what is accepted."""
    if isinstance(source, str):
        return InMemory(source.encode())
    if isinstance(source, bytes):
        return InMemory(source)
    if isinstance(source, bytearray | memoryview):
        return InMemory(memoryview(source).cast("B"))
    if hasattr(source, "read"):
        return Streamed(_read(source), _size(source))  # type: ignore[arg-type]  # it has read()
    if isinstance(source, AsyncIterable):
        return Streamed(_iterate(source), None)
    if isinstance(source, Iterable):
        return Streamed(_iterate_blocking(source), None)
    raise TypeError(
        f"Cannot store a {type(source).__name__}: "
        "pass bytes, str, a binary file, or an iterator of bytes."
    )


def _checked(piece: object) -> bytes:
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise TypeError(
            f"The source gave {type(piece).__name__} where bytes were expected; "
            "open files in binary mode."
        )
    return piece if isinstance(piece, bytes) else bytes(piece)


async def _read(file: "IO[bytes] | AsyncReadable") -> AsyncIterator[bytes]:
    blocking = not inspect.iscoroutinefunction(file.read)
    while True:
        answer = await asyncio.to_thread(file.read, _READ) if blocking else file.read(_READ)
        piece = _checked(await answer if inspect.isawaitable(answer) else answer)
        if not piece:
            return
        yield piece


def _size(file: object) -> int | None:
    """Return what is left of a file, if it can be told."""
    try:
        left: int = os.fstat(file.fileno()).st_size - file.tell()  # type: ignore[attr-defined]  # tried out
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return left if left > 0 else None


async def _iterate(source: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for piece in source:
        yield _checked(piece)


async def _iterate_blocking(source: Iterable[bytes]) -> AsyncIterator[bytes]:
    pieces = iter(source)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield _checked(piece)


async def cut(pieces: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes]:
    """Yield pieces of exactly ``size`` bytes, the last one aside; copies each byte once."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            part = bytes(memoryview(buffer)[:size])
            del buffer[:size]
            yield part
    if buffer:
        yield bytes(buffer)
