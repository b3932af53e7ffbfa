# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Structured concurrency of a body: gather, map and the named race. Plain asyncio on the run's
loop, which makes it replay.

None of them leaves a branch behind: what is given up is cancelled, and has ended when they return.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any


async def gather(*awaitables: Awaitable[Any]) -> list[Any]:
    """Wait for all; return their results in the order given.

    The first failure cancels the others and is raised when they have ended.
    """
    tasks = [asyncio.ensure_future(a) for a in awaitables]
    if not tasks:
        return []
    try:
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if not pending:
            return [task.result() for task in tasks]
    finally:
        await release(tasks)
    # In the order given, so that the choice among several failures does not hang on a set's order.
    raise next(error for t in tasks if t in done and not t.cancelled() and (error := t.exception()))


async def gather_limited[T](
    calls: Iterable[Callable[[], Coroutine[Any, Any, T]]], limit: int | None
) -> list[T]:
    """Run calls, at most ``limit`` at a time, begun in their order; otherwise as gather()."""
    if limit is None:
        return await gather(*(call() for call in calls))
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    free = asyncio.Semaphore(limit)

    async def run(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with free:
            return await call()

    return await gather(*(run(call) for call in calls))


async def select(racers: dict[str, Awaitable[Any]]) -> tuple[str, Any]:
    """Wait for the first; return its name and result, or raise its error; cancel the others."""
    if not racers:
        raise ValueError("select() needs at least one awaitable: ctx.select(name=awaitable, ...)")
    given = {id(a) for a in racers.values() if asyncio.isfuture(a)}
    tasks = {name: asyncio.ensure_future(a) for name, a in racers.items()}
    try:
        done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await release([t for t in tasks.values() if id(t) not in given])
    name, winner = next((name, task) for name, task in tasks.items() if task in done)
    return name, winner.result()


async def release(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel what is not done, and wait until it is; errors of what was given up are dropped."""
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
    for task in left:
        if not task.cancelled():
            task.exception()
