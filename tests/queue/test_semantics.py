# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the queue promises while nothing breaks."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio

from forktex_core.queue import (
    ArgumentsTooLargeError,
    Backoff,
    Concurrency,
    JobCancelledError,
    JobExpiredError,
    JobFailedError,
    NoResultError,
    Queue,
    QueueError,
    QueueFullError,
    QueueUnavailableError,
    Rate,
    Retry,
    UnknownJobError,
    WrongArgumentsError,
    current_job,
    metrics,
)
from forktex_core.queue.testing import drain
from tests.queue.conftest import working
from tests.waiting import eventually

FAST = Backoff(first=0.01)


async def test_result(queue, work):
    """A job's result comes back by its annotation, from async and plain functions alike."""

    @queue.job(keep=60)
    async def shift(moment: datetime, by: timedelta) -> datetime:
        return moment + by

    @queue.job(keep=60)
    def double(number: int) -> int:
        return number * 2

    await work()
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    moved = await shift.enqueue(noon, by=timedelta(hours=1))
    doubled = await double.enqueue(number=21)
    assert await moved.result(5) == noon + timedelta(hours=1)
    assert await doubled.result(5) == 42
    assert await doubled.status() == "succeeded"


async def test_jobs_before_the_first_worker(queue):
    """Jobs that were enqueued before any worker came are delivered (the group begins at id 0)."""
    ran = []

    @queue.job
    async def note(number: int) -> None:
        ran.append(number)

    await queue.enqueue_many([note.call(number) for number in range(2500)])
    await drain(queue)
    assert sorted(ran) == list(range(2500))
    stats = await queue.stats()
    assert (stats.waiting, stats.held) == (0, 0)
    assert stats.counters["note"] == {"enqueued": 2500, "succeeded": 2500}


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), (("7",), {}), ((7, 8), {}), ((), {"user": 7}), ((object(),), {})]
)
async def test_wrong_arguments_fail_at_the_caller(queue, args, kwargs):
    """Arguments that don't fit the signature or the annotation never reach the queue."""

    @queue.job
    async def send(user_id: int) -> None: ...

    with pytest.raises(WrongArgumentsError, match="send"):
        await queue.enqueue("send", *args, **kwargs)
    assert (await queue.stats()).waiting == 0


async def test_unknown_and_large_fail_at_the_caller(redis_url):
    """An unknown job and an argument that is too large fail where they are enqueued, with the way
    out."""
    async with Queue(redis_url, max_bytes=100) as queue:

        @queue.job
        async def send(text: str) -> None: ...

        with pytest.raises(UnknownJobError, match="it has: send"):
            await queue.enqueue("sent", text="x")
        with pytest.raises(ArgumentsTooLargeError, match="100 are allowed"):
            await send.enqueue("x" * 100)


async def test_full_queue_refuses(redis_url):
    """A queue with a limit refuses what doesn't fit, and takes what does."""
    async with Queue(redis_url, max_length=3) as queue:

        @queue.job
        async def noop() -> None: ...

        await queue.enqueue_many([noop.call()] * 3)
        with pytest.raises(QueueFullError, match="3 of 3"):
            await noop.enqueue()


async def test_unreachable_server_is_named():
    """Without a server the caller learns it within the timeout."""
    async with Queue("redis://127.0.0.1:1", timeout=0.2) as queue:

        @queue.job
        async def noop() -> None: ...

        with pytest.raises(QueueUnavailableError, match="not available"):
            await noop.enqueue()


async def test_retries_then_dead_letter_then_requeue(queue, work):
    """A failing job runs retries + 1 times, is a dead letter with its failure, and can be put
    back."""
    attempts = []

    @queue.job(retries=2, backoff=FAST, keep=60)
    async def fail() -> None:
        attempts.append(current_job().attempt)
        raise ValueError("no such user")

    await work()
    job = await fail.enqueue()
    with pytest.raises(JobFailedError, match="no such user"):
        await job.result(5)
    assert attempts == [1, 2, 3]
    (letter,) = await queue.failures()
    assert (letter.name, letter.attempts, letter.reason) == ("fail", 3, "failed")
    assert "no such user" in letter.failure
    assert await queue.requeue([letter.letter]) == 1
    await eventually(lambda: len(attempts) == 6)
    await eventually(queue.failures)


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
    assert [most / 2 - 60 < wait <= most for wait, most in zip(waits, (1000, 3000, 8000))] == [True] * 3


async def not_due(queue, job) -> bool:
    return not await queue.submitter.wire.ask(("ZSCORE", f"{queue.link.root}:d", job.id)) == b"0"


async def test_timeout(queue, work):
    """An attempt that takes too long is a failure."""

    @queue.job(retries=0, timeout=0.05, keep=60)
    async def slow() -> None:
        await asyncio.Event().wait()

    await work()
    with pytest.raises(JobFailedError, match="TimeoutError"):
        await (await slow.enqueue()).result(5)


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


async def test_unique(queue, work):
    """A unique job is there once: while queued, until done, for a period."""
    gate = asyncio.Event()

    @queue.job(unique="queued")
    async def queued(user: int) -> None:
        await gate.wait()

    @queue.job(unique="done")
    async def done(user: int) -> None:
        await gate.wait()

    @queue.job(unique=0.3)
    async def period() -> None: ...

    first = await queued.enqueue(1)
    assert (await queued.enqueue(1)).id == first.id
    assert (await queued.enqueue(2)).created
    held = await done.options(key="k").enqueue(1)
    again = await done.options(key="k").enqueue(2)
    assert (again.created, again.id) == (False, held.id)
    assert (await period.enqueue()).created
    await work()

    async def started() -> bool:
        return (await queue.stats()).held >= 3

    await eventually(started)
    assert (await queued.enqueue(1)).created
    assert not (await done.options(key="k").enqueue(1)).created
    assert not (await period.enqueue()).created
    gate.set()

    async def free() -> bool:
        return (await done.options(key="k").enqueue(1)).created and (await period.enqueue()).created

    await eventually(free)


async def test_priorities_without_starvation(queue):
    """Of ten jobs with one slot, six are high, three normal, one is low."""
    order = []

    @queue.job
    async def note(priority: str) -> None:
        order.append(priority)

    for priority in ("low", "normal", "high"):
        await queue.enqueue_many(
            [note.options(priority=priority).call(priority) for _ in range(100)]
        )
    await drain(queue, concurrency=1)
    assert [order[:50].count(p) for p in ("high", "normal", "low")] == [30, 15, 5]
    assert len(order) == 300


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
        assert all(late - early >= 3_600_000 for early, late in zip(turn, dues[5 * hour + 5 :]))


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
    assert all(late - early >= 300 for early, late in zip(times, times[5:]))


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
            "a": [first, first + 1], "b": [first, first + 1],
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


async def test_cancel_delayed_queued_running(queue, work):
    """A delayed job, a queued one and a running one can all be cancelled."""
    started = []

    @queue.job(keep=60)
    async def stay(name: str) -> None:
        started.append(name)
        await asyncio.Event().wait()

    delayed = await stay.options(delay=100).enqueue("delayed")
    queued = await stay.enqueue("queued")
    running = await stay.enqueue("running")
    assert await delayed.status() == "delayed"
    assert await delayed.cancel()
    assert await queued.cancel()
    await work()
    await eventually(lambda: started == ["running"])
    assert await running.cancel()
    for job in (delayed, queued, running):
        with pytest.raises(JobCancelledError):
            await job.result(5)
    assert not await running.cancel()
    late = await stay.enqueue("late")
    await eventually(lambda: "late" in started)
    assert await late.cancel()
    with pytest.raises(JobCancelledError):
        await late.result(5)


async def test_cancelled_while_the_worker_blocks(queue, work):
    """A wish to cancel stands in the way of a job that a blocking read brings."""
    ran = []

    @queue.job
    async def note(name: str) -> None:
        ran.append(name)

    await work()
    await note.enqueue("first")
    await eventually(lambda: ran == ["first"])
    await queue.handle("AAAAAAAAAAAAAAAA").cancel()
    await note.enqueue("second")
    await eventually(lambda: ran == ["first", "second"])


async def test_pause_and_resume(queue, work):
    """A paused queue starts nothing, not even for a worker that was blocked on it; resuming goes
    on."""
    ran = []

    @queue.job
    async def note(name: str) -> None:
        ran.append(name)

    await work()
    await note.enqueue("before")
    await eventually(lambda: ran)
    await queue.pause()
    await note.enqueue("paused")

    async def given_back() -> bool:
        stats = await queue.stats()
        return stats.paused and stats.waiting == 1 and stats.held == 0

    await eventually(given_back)
    assert ran == ["before"]
    await queue.resume()
    await eventually(lambda: ran == ["before", "paused"])


async def test_expiry(queue):
    """A job that waited too long is not started."""
    ran = []

    @queue.job(keep=60)
    async def note() -> None:
        ran.append(1)

    job = await note.options(expires=0.01).enqueue()
    await eventually(lambda: time.time() * 1000 > job.enqueued_at.timestamp() * 1000 + 20)
    await drain(queue)
    with pytest.raises(JobExpiredError):
        await job.result(5)
    assert not ran


async def test_batch_callback(queue, work):
    """The callback runs once, after the last job, and knows how many failed."""
    seen = []

    @queue.job(retries=0)
    async def part(number: int) -> None:
        if number == 3:
            raise ValueError(number)

    @queue.job
    async def report(name: str) -> None:
        seen.append((name, current_job().batch))

    await work()
    batch = await queue.batch([part.call(n) for n in range(50)], then=report.call("all"))
    await eventually(lambda: seen)
    assert seen == [("all", (50, 1))]
    assert await batch.left() == 0


async def test_progress(queue, work):
    """A running job's progress can be read, and goes when it ends."""
    gate = asyncio.Event()

    @queue.job(keep=60)
    async def walk() -> None:
        await current_job().progress(0.5, "half")
        await gate.wait()

    await work()
    job = await walk.enqueue()
    progress = await eventually(job.progress)
    assert (progress.done, progress.note) == (0.5, "half")
    gate.set()
    await job.result(5)
    assert await job.progress() is None


async def test_no_result(queue):
    """A job that keeps no result says so; one whose result isn't there says that."""

    @queue.job
    async def noop() -> None: ...

    with pytest.raises(NoResultError, match="keep"):
        await (await noop.enqueue()).result(1)
    with pytest.raises(NoResultError, match=r"after 0\.05 s"):
        await (await noop.options(keep=1).enqueue()).result(0.05)


async def test_hooks_and_middleware(queue):
    """Start-up hooks come first, shut-down hooks last, middleware around each job, outermost
    first."""
    seen = []

    @queue.on_startup
    async def begin(state: dict) -> None:
        state["greeting"] = "hello"

    @queue.on_shutdown
    def end(state: dict) -> None:
        seen.append("end")

    @queue.middleware
    async def outer(context, call_next):
        seen.append(f"outer {context.name}")
        return await call_next()

    @queue.middleware
    async def inner(context, call_next):
        seen.append("inner")
        return await call_next()

    @queue.job
    async def greet() -> None:
        seen.append(current_job().state["greeting"])

    await greet.enqueue()
    await drain(queue)
    assert seen == ["outer greet", "inner", "hello", "end"]
    with pytest.raises(QueueError, match="no job runs here"):
        current_job()


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


async def test_purge_frees_unique_keys(queue):
    """Purged jobs end: their unique keys are free again."""

    @queue.job(unique="done")
    async def noop(number: int) -> None: ...

    await queue.enqueue_many([noop.call(n) for n in range(700)])
    await noop.options(delay=100).enqueue(1000)
    assert await queue.purge("ready") == 700
    assert await queue.purge("parked") == 1
    assert (await noop.enqueue(0)).created
    assert 'state="waiting"} 1' in metrics(await queue.stats())
