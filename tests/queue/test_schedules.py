# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""When jobs run: delays, retries, plans."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from forktex_core.queue import Backoff, Queue, Retry, current_job
from forktex_core.queue.cron import Cron
from forktex_core.queue.testing import drain
from tests.queue.conftest import working
from tests.waiting import eventually


async def due_in(queue, job) -> float:
    """Seconds from now, by the server's clock, until a parked job is due."""
    wire = queue.submitter.wire
    due = float(await wire.ask(("ZSCORE", f"{queue.link.root}:d", job.id)))
    seconds, micros = map(int, await wire.ask(("TIME",)))
    return due / 1000 - seconds - micros / 1e6


@pytest.mark.parametrize("after", [3600, timedelta(hours=1)])
async def test_retry_after(queue, after):
    """``Retry(after)`` decides the delay, not the backoff; the job succeeds afterwards."""
    attempts = []

    @queue.job(keep=60, backoff=Backoff(first=1))
    async def later() -> str:
        attempts.append(current_job().attempt)
        if len(attempts) < 2:
            raise Retry(after=after)
        return "done"

    job = await later.enqueue()
    await drain(queue)
    assert 3000 < await due_in(queue, job) <= 3600
    await queue.submitter.wire.ask(("ZADD", f"{queue.link.root}:d", 0, job.id))
    async with working(queue):
        assert await job.result(5) == "done"
    assert attempts == [1, 2]


async def test_retries_back_off(queue):
    """A failing job waits for its backoff, longer each time, with jitter."""

    @queue.job(retries=3, backoff=Backoff(first=1000, factor=3, most=8000))
    async def fail() -> None:
        raise ValueError

    job = await fail.enqueue()
    waits = []
    for _ in range(3):
        await drain(queue)
        waits.append(await due_in(queue, job))
        await queue.submitter.wire.ask(("ZADD", f"{queue.link.root}:d", 0, job.id))
        async with working(queue):
            await eventually(lambda: not_due(queue, job))
    for wait, most in zip(waits, (1000, 3000, 8000), strict=True):
        assert most / 2 - 60 < wait <= most


async def not_due(queue, job) -> bool:
    return await queue.submitter.wire.ask(("ZSCORE", f"{queue.link.root}:d", job.id)) != b"0"


async def test_delays(queue, work):
    """Delayed jobs start in the order in which they are due, none before its time, also one that is
    due before all others. (By how little they are late: ``benchmarks/queue.py --redelivery``.)"""
    early, order = [], []

    @queue.job
    async def note(due: float) -> None:
        order.append(due)
        early.append(due - time.time())

    await work()
    start = time.time()
    await note.options(at=datetime.now(UTC) + timedelta(seconds=3600)).enqueue(0)
    for delay in (0.5, 0.3, timedelta(seconds=0.1)):
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        await note.options(delay=delay).enqueue(start + seconds)
    await eventually(lambda: len(order) == 3)
    assert order == sorted(order)
    assert max(early) < 0.001, early
    assert (await queue.stats()).delayed == 1


async def test_delay_in_milliseconds(queue):
    """A delay is kept to the millisecond, by the server's clock."""

    @queue.job
    async def noop() -> None: ...

    wire, root = queue.submitter.wire, queue.link.root
    before = await wire.ask(("TIME",))
    job = await noop.options(delay=50.123).enqueue()
    after = await wire.ask(("TIME",))
    due = float(await wire.ask(("ZSCORE", f"{root}:d", job.id)))
    first, last = (int(s) * 1000 + int(us) // 1000 + 50_123 for s, us in (before, after))
    assert first <= due <= last
    moment = datetime(2040, 1, 1, 0, 0, 0, 789_000, UTC)
    job = await noop.options(at=moment).enqueue()
    assert float(await wire.ask(("ZSCORE", f"{root}:d", job.id))) == moment.timestamp() * 1000


async def test_cron_fires_once(queue, work):
    """Three workers fire each tick of a cron job once: no more jobs than seconds have passed."""
    ran = []

    @queue.job(cron="* * * * * *", timezone="Europe/Berlin")
    async def tick() -> None:
        ran.append(1)

    wire, root = queue.submitter.wire, queue.link.root
    start, _ = map(int, await wire.ask(("TIME",)))
    for _ in range(3):
        await work()
    await eventually(lambda: len(ran) >= 3)
    await queue.pause()
    last = int((await wire.ask(("HVALS", f"{root}:C")))[0]) / 1000
    assert (await queue.stats()).counters["tick"]["enqueued"] <= last - start + 1


async def test_one_tick_from_everywhere(queue, redis_url):
    """The same tick, fired by three workers at once and once more by one that is late, is one
    job; a later tick is another."""

    @queue.job(cron="0 8 * * *")
    async def report() -> None: ...

    (cron,) = queue.crons
    tick = datetime(2026, 1, 5, 8, tzinfo=UTC)
    async with Queue(redis_url, "test") as other:
        queues = [queue, other, queue]
        await asyncio.gather(*(one.submitter.submit([cron.envelope(tick)]) for one in queues))
        assert (await queue.stats()).waiting == 1
        await other.submitter.submit([cron.envelope(tick + timedelta(days=1))])
        assert (await queue.stats()).waiting == 2
        await queue.submitter.submit([cron.envelope(tick)])
        assert (await queue.stats()).waiting == 2


def test_cron_over_summer_time(queue):
    """A plan at 08:00 in Berlin is 07:00 UTC in winter and 06:00 in summer, once a day."""

    @queue.job
    async def report() -> None: ...

    cron = Cron(report.call(), "0 8 * * *", "Europe/Berlin")
    moment, ticks = datetime(2026, 3, 27, 12, tzinfo=UTC), []
    for _ in range(3):
        moment = cron.after(moment)
        ticks.append(moment.astimezone(UTC))
    assert [(tick.day, tick.hour) for tick in ticks] == [(28, 7), (29, 6), (30, 6)]


def test_catch_up(queue):
    """A missed tick counts when it is no longer ago than ``catch_up``."""

    @queue.job
    async def report() -> None: ...

    start = datetime(2026, 1, 5, 8, 10, tzinfo=UTC)
    made_up = Cron(report.call(), "0 8 * * *", catch_up=timedelta(minutes=30)).first(start)
    too_late = Cron(report.call(), "0 8 * * *", catch_up=60).first(start)
    assert made_up == start.replace(minute=0)
    assert too_late == start.replace(minute=0) + timedelta(days=1)
