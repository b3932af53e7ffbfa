# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Enqueueing, many callers in one round trip.

The first caller's jobs are sent at once. Who comes while a call is on its way waits for the next
one, which carries all of them: the cost of a job falls as the load rises, and a lone caller waits
for nobody. A lone job about which there is nothing to decide (it is due, and has no key that must
be free) needs no script: it is added to its stream, and counted behind that.
"""

import asyncio
from collections.abc import Sequence

from redis.exceptions import ResponseError

from forktex_core.queue import scripts
from forktex_core.queue.envelope import MOST, BatchStart, Envelope
from forktex_core.queue.errors import QueueFullError
from forktex_core.queue.link import Link, Wire


class Submitter:
    """The transport to Redis. ``limit``: how many jobs the queue may hold, or None."""

    def __init__(self, link: Link, limit: int | None) -> None:
        self._link, self._limit = link, limit
        self.wire: Wire = link.wire()
        self._waiting: list[tuple[Sequence[Envelope], asyncio.Future[list[str]]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def submit(
        self, envelopes: Sequence[Envelope], batch: BatchStart | None = None
    ) -> list[str]:
        """See `Transport`. Raises QueueFullError, QueueUnavailableError."""
        if batch is not None:
            return await self._send(envelopes, batch)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[str]] = loop.create_future()
        self._waiting.append((envelopes, done))
        if self._sending is None:
            self._sending = asyncio.Task(self._drain(), loop=loop, eager_start=True)
            if self._sending.done():
                self._sending = None
        return await done

    async def close(self) -> None:
        """See `Transport`."""
        if self._sending is not None:
            await self._sending
        await self.wire.close()

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._send_together(self._next())
        finally:
            self._sending = None

    def _next(self) -> list[tuple[Sequence[Envelope], asyncio.Future[list[str]]]]:
        """The callers that the next call carries: one at least, as many as fit."""
        size = n = 0
        for envelopes, _ in self._waiting:
            size += len(envelopes)
            if n and (size > MOST or self._limit is not None):
                break
            n += 1
        group, self._waiting = self._waiting[:n], self._waiting[n:]
        return group

    async def _send_together(
        self, group: list[tuple[Sequence[Envelope], asyncio.Future[list[str]]]]
    ) -> None:
        try:
            replies = await self._send([one for envelopes, _ in group for one in envelopes])
        except BaseException as error:  # noqa: BLE001 - it is handed to every caller
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
            return
        at = 0
        for envelopes, done in group:
            if not done.done():
                done.set_result(replies[at : at + len(envelopes)])
            at += len(envelopes)

    async def _send(
        self, envelopes: Sequence[Envelope], batch: BatchStart | None = None
    ) -> list[str]:
        if self._limit is None and batch is None and len(envelopes) == 1 and envelopes[0].plain:
            await self.wire.insist(*self._addition(envelopes[0]))
            return [""]
        words: list[scripts.Word] = ["" if self._limit is None else self._limit]
        callback = batch.callback if batch else None
        words += [batch.id if batch else "", callback.encode() if callback else b""]
        for one in envelopes:
            words += (one.lane, one.message.encode(), one.due, one.unique, one.guard)
        try:
            replies = await self.wire.insist(scripts.call("enqueue", self._link.root, *words))
        except ResponseError as error:
            raise self._full(error) or error from error
        return [reply.decode() for reply in replies]

    def _addition(self, one: Envelope) -> tuple[scripts.Command, scripts.Command]:
        root, name = self._link.root, one.message.name
        add = ("XADD", f"{root}:{one.lane}", "*", "m", one.message.encode())
        return add, ("HINCRBY", f"{root}:t", f"enqueued:{name}", 1)

    def _full(self, error: ResponseError) -> QueueFullError | None:
        word, _, rest = str(error).partition(" ")
        if word != "FULL" or self._limit is None:
            return None
        return QueueFullError(self._link.name, int(rest.split()[0]), self._limit)
