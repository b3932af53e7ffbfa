# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A large object in parts: in parallel, and nothing left behind however it ends.

Protocol. At most ``parallel`` parts are in memory and under way. When a part, the source or the
completion fails, or the caller is cancelled, the parts under way are cancelled and awaited first,
then the upload is aborted. The caller waits for that, so that no task outlives the call; cancelled
once more, it leaves, and the client's `Chores` finish it, which `close` waits for.

An upload that is to be resumed is not aborted: its parts stay, and are paid for, until the next
attempt completes it or `cleanup_uploads` finds it. When its source fails, parts under way are let
finish; a caller that is cancelled does not wait for them.

The id of an upload is known only when the store has answered, so its beginning is a chore of its
own: a caller that is cancelled meanwhile leaves a chore that waits for the answer and aborts.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Coroutine

from .backends.protocol import Upload
from .errors import StorageError, TooLarge

_log = logging.getLogger("forktex_core.storage")


class Chores:
    """Tasks that must end although their caller was cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start[T](self, work: Coroutine[object, object, T]) -> "asyncio.Task[T]":
        """Start one."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait until none is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)


async def upload_parts(
    begin: Coroutine[object, object, Upload],
    parts: AsyncIterator[bytes | memoryview],
    *,
    parallel: int,
    most: int,
    chores: Chores,
    keep: bool = False,
) -> str | None:
    """Upload all parts and complete; return the ETag.

    Whatever goes wrong is raised, after aborting unless the parts are to be kept.
    """
    beginning = chores.start(begin)
    try:
        upload = await asyncio.shield(beginning)
    except asyncio.CancelledError:
        if not keep:
            await asyncio.shield(chores.start(_abort_when_begun(beginning)))
        raise
    try:
        await _send_all(upload, parts, parallel, most, keep=keep)
        return await upload.complete()
    except BaseException:
        if not keep:
            await asyncio.shield(chores.start(_abort(upload)))
        raise


async def _send_all(
    upload: Upload,
    parts: AsyncIterator[bytes | memoryview],
    parallel: int,
    most: int,
    *,
    keep: bool,
) -> None:
    slots = asyncio.Semaphore(parallel)
    under_way: set[asyncio.Task[None]] = set()

    async def send(number: int, part: bytes | memoryview) -> None:
        try:
            await upload.part(number, part)
        finally:
            slots.release()

    async def send_each(group: asyncio.TaskGroup) -> None:
        number = 0
        async for part in parts:
            number += 1
            if number > most:
                raise TooLarge(
                    f"The upload needs more than {most} parts: pass a larger part_size=."
                )
            await slots.acquire()
            task = group.create_task(send(number, part))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            del part

    try:
        async with asyncio.TaskGroup() as group:
            try:
                await send_each(group)
            except Exception:
                if keep and under_way:  # what is on its way will not have to be sent again
                    await asyncio.wait(under_way)
                raise
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first failure itself: to the caller, the upload is one operation."""
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _abort_when_begun(beginning: "Awaitable[Upload]") -> None:
    try:
        upload = await beginning
    except StorageError:
        return
    await _abort(upload)


async def _abort(upload: Upload) -> None:
    try:
        await upload.abort()
    except StorageError as error:
        _log.warning("An upload could not be aborted; cleanup_uploads() will find it. %s", error)
