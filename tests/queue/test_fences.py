# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What keeps workers from doing what they may no longer, or not yet, do."""

import asyncio

import pytest

from forktex_core.queue import Concurrency, Queue, scripts
from forktex_core.queue.testing import drain
from tests.queue.conftest import working
from tests.queue.test_crashes import killed_worker
from tests.waiting import eventually


async def taken(queue: Queue, worker: str) -> list[bytes]:
    """What the server gives a worker that asks now."""
    wire, root = queue.submitter.wire, queue.link.root
    await wire.ask(scripts.call("join", root, worker, "{}", 60_000))
    return await wire.ask(scripts.call("take", root, worker, 10, 1, 5, 0))


async def test_a_paused_queue_gives_nothing(queue):
    """The server itself keeps a paused queue's jobs, from workers too that have not heard of it."""

    @queue.job
    async def noop() -> None: ...

    await noop.enqueue()
    await queue.pause()
    assert await taken(queue, "deaf") == []
    await queue.resume()
    assert len(await taken(queue, "deaf")) == 3


@pytest.mark.parametrize("verb", ["s", "f", "c", "x", "r", "g"])
async def test_an_outcome_without_its_delivery_is_void(queue, verb):
    """Whatever a worker says of a delivery that was taken from it changes nothing: the job waits
    for its next run, once."""

    @queue.job(keep=60)
    async def noop() -> None: ...

    job = await noop.enqueue()
    lane, entry, message = await taken(queue, "slow")
    wire, root = queue.submitter.wire, queue.link.root
    while not await wire.ask(scripts.call("leave", root, "slow", 3, 10)):
        pass
    words = (lane, entry, verb, message, 0, '{"s":"failed"}', "late")
    assert await wire.ask(scripts.call("settle", root, 3, 10, 0, *words)) == 1
    stats = await queue.stats()
    assert (stats.waiting, stats.held, stats.delayed, stats.dead) == (1, 0, 0, 0)
    assert stats.counters["noop"] == {"enqueued": 1}
    assert await job.status() == "pending"


async def test_who_has_just_come_judges_nobody(redis_url):
    """A worker that has not seen the server for as long as a sign of life lasts takes no silent
    worker for dead: after a restart of the server all of them are silent."""
    ran = []
    async with Queue(redis_url, "test", dead_after=3600) as queue:

        @queue.job
        async def note(name: str) -> None:
            ran.append(name)

        await note.enqueue("held")
        await killed_worker(queue)
        async with working(queue):
            await note.options(delay=0.05).enqueue("due")  # whoever moves it would judge as well
            await eventually(lambda: ran == ["due"])
            stats = await queue.stats()
            assert stats.held == 1
            assert "redelivered" not in stats.counters["note"]


async def test_a_cancelled_jobs_place_goes_on(queue):
    """A job that is cancelled just before it would be taken hands its place to the next, which a
    burst runs as well."""
    gate, ran = asyncio.Event(), []

    @queue.job(limits=[Concurrency(1)], timeout=None)
    async def note(name: str) -> None:
        ran.append(name)
        await gate.wait()

    async def limited(number: int, held: int) -> bool:
        stats = await queue.stats()
        return (stats.limited, stats.held) == (number, held)

    async with working(queue, grace=10):
        await note.enqueue("first")
        await eventually(lambda: ran == ["first"])
        second = await note.enqueue("second")
        await eventually(lambda: limited(1, 1))
        await note.enqueue("third")
        await eventually(lambda: limited(2, 1))
        await queue.pause()
        gate.set()
        await eventually(lambda: limited(1, 0))
    await second.cancel()
    await queue.resume()
    await drain(queue)
    assert ran == ["first", "third"]
