# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Reading an object like a file: seek, read, and only what is read travels."""

import io
from types import TracebackType
from typing import Self

from .backends.protocol import Backend
from .errors import ClientClosed
from .objects import ObjectInfo

BUFFER = 1024 * 1024


class ObjectReader:
    """An asynchronous, seekable, read-only file over one version of an object.

    Reads ahead by ``buffer`` bytes. If the object is replaced meanwhile, the next read raises
    `PreconditionFailed` rather than mixing two versions.
    """

    def __init__(self, backend: Backend, info: ObjectInfo, *, buffer: int = BUFFER) -> None:
        self._backend = backend
        self._buffer_size = buffer
        self._buffer = b""
        self._buffer_start = 0
        self._position = 0
        self._closed = False
        self.info = info

    @property
    def size(self) -> int:
        """The size of the object in bytes."""
        return self.info.size

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the start, the position or the end; no request is made."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(
                f"Cannot seek to {base + offset}, before the start of {self.info.key!r}."
            )
        self._position = base + offset
        return self._position

    async def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, all that is left if negative, none at the end."""
        if self._closed:
            raise ClientClosed(f"The reader of {self.info.key!r} is closed.", key=self.info.key)
        left = max(self.size - self._position, 0)
        wanted = left if size < 0 else min(size, left)
        if not wanted:
            return b""
        offset = self._position - self._buffer_start
        if not offset >= 0 or offset + wanted > len(self._buffer):
            await self._fill(wanted)
            offset = 0
        self._position += wanted
        return self._buffer[offset : offset + wanted]

    async def _fill(self, wanted: int) -> None:
        end = min(self._position + max(wanted, self._buffer_size), self.size)
        download = await self._backend.get(
            self.info.key, start=self._position, end=end, etag=self.info.etag
        )
        self._buffer, self._buffer_start = await download.read(), self._position

    async def close(self) -> None:
        """Let go of the buffer; closing twice is fine."""
        self._closed, self._buffer = True, b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
