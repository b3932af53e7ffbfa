# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Two entries of different streams may have the same id (jobs of two priorities, enqueued in one
millisecond): they are two deliveries all the same."""

import asyncio

import pytest

from forktex_core.queue import Queue, scripts
from tests.queue.conftest import working
from tests.queue.test_faults import noting, proxied, succeeded
from tests.waiting import eventually

LANES = "hnl"


async def add_twins(queue: Queue, calls) -> list[str]:
    """One waiting job in each lane, all of them with one entry id; the ids of the jobs."""
    ids = []
    for lane, call in zip(LANES, calls, strict=True):
        message = call.envelope().message
        ids.append(message.id)
        entry = ("XADD", f"{queue.link.root}:{lane}", "5000-0", "m", message.encode())
        await queue.submitter.wire.ask(entry)
    return ids


async def test_the_end_waits_for_each(queue):
    """A graceful end waits for all of them, and none is run twice."""
    gates, began, ended = [asyncio.Event() for _ in LANES], [], []

    @queue.job
    async def stay(number: int) -> None:
        began.append(number)
        await gates[number].wait()
        ended.append(number)

    await add_twins(queue, [stay.call(n) for n in range(3)])
    async with working(queue, grace=30):
        await eventually(lambda: len(began) == 3)
        loop = asyncio.get_running_loop()
        gates[2].set()
        loop.call_later(0.5, lambda: [gate.set() for gate in gates])
    assert sorted(ended) == [0, 1, 2]
    stats = await queue.stats()
    assert (stats.waiting, stats.held) == (0, 0)


async def test_each_is_cancelled_alone(queue, work):
    """A wish to cancel reaches the one that it means, also among twins that run."""
    gate, began, cancelled = asyncio.Event(), [], []

    @queue.job(timeout=None)
    async def stay(number: int) -> None:
        began.append(number)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    ids = await add_twins(queue, [stay.call(n) for n in range(3)])
    await work()
    await eventually(lambda: len(began) == 3)
    for number, job_id in enumerate(ids):
        await queue.handle(job_id).cancel()
        await eventually(lambda number=number: number in cancelled)
    assert cancelled == [0, 1, 2]


async def test_a_lost_reply_with_twins(queue, redis_url):
    """Twins in a reply that never came are all found again, and run once."""
    note = noting(queue)
    async with proxied(redis_url) as proxy, Queue(proxy.url, "test") as far:
        far.jobs, far.ran = queue.jobs, queue.ran
        await add_twins(queue, [note.call(n) for n in range(3)])
        proxy.swallow = b"\nnote\n"
        async with working(far):
            await eventually(succeeded(queue, 3))
    assert proxy.swallowed == 1
    assert sorted(queue.ran) == [0, 1, 2]


@pytest.mark.parametrize("victim", range(3))
async def test_vetting_tells_them_apart(queue, victim):
    """Of twins that a blocking read brought, only the one that was cancelled is held back."""

    @queue.job
    async def note(number: int) -> None: ...

    ids = await add_twins(queue, [note.call(n) for n in range(3)])
    wire, root = queue.submitter.wire, queue.link.root
    await wire.ask(scripts.call("join", root, "w1", "{}", 5000))
    taken = await wire.ask(scripts.call("take", root, "w1", 10, 1, 5, 0))
    assert len(taken) == 9
    await queue.handle(ids[victim]).cancel()
    allowed = await wire.ask(scripts.call("vet", root, *taken))
    lanes = [taken[3 * (place - 1)].decode() for place in allowed]
    assert lanes == [lane for lane in LANES if lane != LANES[victim]]
