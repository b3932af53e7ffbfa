# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Rates and limits of concurrency: for a job, for a key, together, over workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio

from forktex_core.queue import Concurrency, Rate, current_job
from tests.queue.conftest import working
from tests.waiting import eventually


async def test_rate_limit(queue):
    """Of twenty jobs at five an hour, over two workers, five run and the others have their turns,
    five in each later hour."""
    ran = []

    @queue.job(limits=[Rate(5, per=3600)])
    async def call() -> None:
        ran.append(1)

    jobs = await queue.enqueue_many([call.call() for _ in range(20)])
    async with working(queue, concurrency=3), working(queue, concurrency=3):

        async def all_seen() -> bool:
            stats = await queue.stats()
            return (stats.waiting, stats.held, stats.delayed) == (0, 0, 15)

        await eventually(all_seen)
    assert len(ran) == 5
    wire, root = queue.submitter.wire, queue.link.root
    scores = [await wire.ask(("ZSCORE", f"{root}:d", job.id)) for job in jobs]
    dues = sorted(float(score) for score in scores if score is not None)
    for hour in range(3):
        turn = dues[5 * hour : 5 * hour + 5]
        assert turn[4] - turn[0] < 600_000
        assert all(
            late - early >= 3_600_000
            for early, late in zip(turn, dues[5 * hour + 5 :], strict=False)
        )


@asynccontextmanager
async def admissions(redis_url: str, limit: str) -> AsyncIterator[list[int]]:
    """The times, by the server's clock in ms, at which a rate admits jobs, as the server tells."""
    seen: list[int] = []
    async with redis.asyncio.Redis.from_url(redis_url) as client, client.monitor() as monitor:

        async def listen() -> None:
            async for command in monitor.listen():
                words = command["command"].split()
                if words[0] == "LPUSH" and words[1].endswith(f":A:{limit}"):
                    seen.append(int(words[2]))

        listening = asyncio.create_task(listen())
        try:
            yield seen
        finally:
            listening.cancel()
            await asyncio.wait([listening])


async def test_no_window_admits_more(queue, work, redis_url):
    """In no window are more jobs admitted than the rate says, wherever the window begins, and all
    of them run, over two workers."""
    ran = []

    @queue.job(limits=[Rate(5, per=0.3)])
    async def call() -> None:
        ran.append(1)

    async with admissions(redis_url, "call:0") as times:
        await work()
        await work()
        await queue.enqueue_many([call.call() for _ in range(20)])
        await eventually(lambda: len(ran) == len(times) == 20)
    assert all(late - early >= 300 for early, late in zip(times, times[5:], strict=False))


async def test_concurrency_by_key(queue, work):
    """At most so many run at once for each key, over two workers; the waiting ones follow in order,
    and no slot stays behind."""
    gates = {(key, n): asyncio.Event() for key in "ab" for n in range(6)}
    running: dict[str, list[int]] = {"a": [], "b": []}

    @queue.job(limits=[Concurrency(2, by_key=True)])
    async def visit(number: int) -> None:
        key = current_job().key
        running[key].append(number)
        await gates[key, number].wait()
        running[key].remove(number)

    await queue.enqueue_many([visit.options(key=key).call(n) for n in range(6) for key in "ab"])

    async def settled(limited: int) -> bool:
        stats = await queue.stats()
        return (stats.waiting, stats.limited) == (0, limited)

    await work()
    await work()
    for first in range(5):
        await eventually(lambda first=first: all(len(running[k]) == 2 for k in "ab"))
        await eventually(lambda first=first: settled(2 * (4 - first)))
        assert {key: sorted(numbers) for key, numbers in running.items()} == {
            "a": [first, first + 1],
            "b": [first, first + 1],
        }
        for key in "ab":
            gates[key, first].set()
        await eventually(lambda first=first: all(first not in running[k] for k in "ab"))
    for gate in gates.values():
        gate.set()
    client = queue.submitter.wire

    async def no_slot_left() -> bool:
        return not await client.ask(("KEYS", "fq:{test}:c:*"))

    await eventually(no_slot_left)


async def test_rate_by_key_and_limits_together(queue):
    """A rate by key counts each key alone, and holds beside a concurrency of the whole job."""
    starts = []

    @queue.job(limits=[Rate(2, per=3600, by_key=True), Concurrency(3)])
    async def call() -> None:
        starts.append(current_job().key)

    await queue.enqueue_many([call.options(key=key).call() for _ in range(6) for key in "abc"])
    async with working(queue):

        async def all_seen() -> bool:
            stats = await queue.stats()
            return (stats.waiting, stats.held, stats.delayed, stats.limited) == (0, 0, 12, 0)

        await eventually(all_seen)
    assert sorted(starts) == ["a", "a", "b", "b", "c", "c"]
