# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The process of test_memory: moves so many mebibytes there and back, and tells what it took.

It prints, in KiB, the memory that it had before the first byte and the most that it had after, as
Linux counts resident memory; the peak is reset in between.
"""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from forktex_core.storage import S3Credentials, StorageClient

MIB = 1024 * 1024


def resident(line: str) -> int:
    """KiB of resident memory: ``VmRSS`` now, ``VmHWM`` at most."""
    status = Path("/proc/self/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith(line)).split()[1])


class Source:
    """Bytes that are made as they are asked for, and their digest."""

    def __init__(self, mebibytes: int) -> None:
        self._left = mebibytes
        self._seed = os.urandom(MIB - 8)
        self.digest = hashlib.sha256()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._left:
            piece = self._left.to_bytes(8) + self._seed
            self._left -= 1
            self.digest.update(piece)
            yield piece


async def stream(store: StorageClient, mebibytes: int) -> None:
    """Up from a stream, and down as one."""
    source = Source(mebibytes)
    await store.put("stream", source)
    digest = hashlib.sha256()
    async for piece in store.stream("stream"):
        digest.update(piece)
    assert digest.digest() == source.digest.digest()


async def carry(store: StorageClient, mebibytes: int, folder: Path) -> None:
    """Down into a file, and up from that."""
    await store.download_file("stream", folder / "down")
    await store.delete("stream")
    await store.upload_file(folder / "down", "file")
    assert (await store.head("file")).size == mebibytes * MIB
    await store.delete("file")
    (folder / "down").unlink()


async def main(url: str, bucket: str, mebibytes: int, folder: str) -> None:
    """Warm up with little, then measure."""
    keys = S3Credentials("admin", "admin-secret-key")
    async with StorageClient(f"s3://{bucket}", keys, endpoint_url=url) as store:
        await store.put("warm", b"1")
        await store.get("warm")
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        await stream(store, mebibytes)
        if folder:
            await carry(store, mebibytes, Path(folder))
        sys.stdout.write(f"{before} {resident('VmHWM')}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
