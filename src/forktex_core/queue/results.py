# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Waiting for results: one connection for all waiters of a queue.

A kept result is a key; after it is written, its id is added to the stream ``e``. The watcher notes
the end of that
stream, then the waiter looks for the key, then the watcher reads on from the noted place: a result
that comes in
between is seen by one or the other. The stream is short, so a slow watcher could miss an id:
waiters look again
every second.
"""

import asyncio
import time
from contextlib import suppress

from forktex_core.queue.link import TRANSIENT, Link, Wire

BLOCK = 1.0  # seconds of one blocking read
LOOK = 1.0  # seconds between two looks at the key itself


class Results:
    """The waiters of one queue. ``wire``: for looks; the watcher has one of its own while
    anybody waits."""

    def __init__(self, link: Link, wire: Wire) -> None:
        self._root, self._wire = link.root, wire
        self._ears = link.wire()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._place: str | bytes | None = None

    async def wait(self, job_id: str, timeout: float | None) -> bytes | None:
        """The stored outcome of a job; None when it doesn't come in time."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        came = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(came)
        try:
            await self._watch()
            while True:
                came.clear()
                stored: bytes | None = await self._wire.insist(("GET", f"{self._root}:o:{job_id}"))
                left = deadline - time.monotonic()
                if stored is not None or left <= 0:
                    return stored
                with suppress(TimeoutError):
                    await asyncio.wait_for(came.wait(), min(left, LOOK))
        finally:
            self._waiting[job_id].discard(came)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def close(self) -> None:
        """Stop watching."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])
        await self._ears.close()

    async def _watch(self) -> None:
        if self._watcher is not None and not self._watcher.done():
            return
        last = await self._wire.insist(("XREVRANGE", f"{self._root}:e", "+", "-", "COUNT", 1))
        self._place = last[0][0] if last else "0-0"
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while self._waiting:
            try:
                await self._hear()
            except TRANSIENT:
                await asyncio.sleep(LOOK)
        self._watcher = None
        await self._ears.close()

    async def _hear(self) -> None:
        block = round(BLOCK * 1000)
        words = ("XREAD", "BLOCK", block, "STREAMS", f"{self._root}:e", self._place or "0-0")
        (reply,) = await self._ears.send(words, wait=BLOCK)
        for entry, (_, job_id) in reply[0][1] if reply else []:
            self._place = entry
            self._wake(job_id.decode())

    def _wake(self, job_id: str) -> None:
        for came in self._waiting.get(job_id, ()):
            came.set()
