# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the queue promises while nothing breaks."""

import asyncio
import gc
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from forktex_core.queue import (
    ArgumentsTooLargeError,
    Backoff,
    JobCancelledError,
    JobExpiredError,
    JobFailedError,
    NoResultError,
    Queue,
    QueueError,
    QueueFullError,
    QueueUnavailableError,
    UnknownJobError,
    WrongArgumentsError,
    current_job,
    metrics,
)
from forktex_core.queue.testing import drain
from forktex_core.queue.worker.delivery import Delivery
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


async def test_timeout(queue, work):
    """An attempt that takes too long is a failure."""

    @queue.job(retries=0, timeout=0.05, keep=60)
    async def slow() -> None:
        await asyncio.Event().wait()

    await work()
    with pytest.raises(JobFailedError, match="TimeoutError"):
        await (await slow.enqueue()).result(5)


@pytest.mark.parametrize("plain", [False, True])
async def test_timeout_is_one_failure_of_several(queue, work, plain):
    """A late attempt is told to end (a plain function's thread can't be), and is tried again like
    any other failure; one that ends in time is left alone."""
    attempts, told, gate = [], [], threading.Event()

    async def wait() -> str:
        attempts.append(current_job().attempt)
        if len(attempts) == 2:
            await asyncio.sleep(0)
            return "in time"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append(1)
            raise
        return "never"

    def hang() -> str:
        attempts.append(current_job().attempt)
        if len(attempts) < 2:
            gate.wait(10)
        return "in time"

    job = queue.job(retries=1, timeout=0.2, backoff=FAST, keep=60)(hang if plain else wait)
    await work()
    assert await (await job.enqueue()).result(10) == "in time"
    gate.set()
    assert attempts == [1, 2]
    assert told == ([] if plain else [1])
    assert (await queue.stats()).counters[job.definition.name]["retried"] == 1


async def test_a_job_that_caught_its_time_may_still_fail(queue, work):
    """What a job raises or returns after it was told that its time is over is its outcome."""

    @queue.job(retries=0, timeout=0.05, keep=60)
    async def stubborn(way: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if way == "raises":
                raise ValueError("half done") from None
        return "done"

    await work()
    with pytest.raises(JobFailedError, match="half done"):
        await (await stubborn.enqueue("raises")).result(10)
    assert await (await stubborn.enqueue("returns")).result(10) == "done"


async def test_a_worker_forgets_jobs_that_ended(queue, work):
    """Nothing in the worker keeps an ended job, its timer (of minutes) neither."""

    ran = []

    @queue.job(timeout=3600)
    async def turn() -> None:
        await asyncio.sleep(0)
        ran.append(1)

    await work()
    await queue.enqueue_many([turn.call() for _ in range(300)])

    def forgotten() -> bool:
        gc.collect()
        return len(ran) == 300 and not any(isinstance(one, Delivery) for one in gc.get_objects())

    await eventually(forgotten)


async def test_unique(queue, work):
    """A unique job is there once: while queued, until done, for a period."""
    gate, began = asyncio.Event(), []

    @queue.job(unique="queued")
    async def queued(user: int) -> None:
        began.append(user)
        await gate.wait()

    @queue.job(unique="done")
    async def done(user: int) -> None:
        began.append(user)
        await gate.wait()

    @queue.job(unique=3600)
    async def period() -> None: ...

    first = await queued.enqueue(1)
    assert (await queued.enqueue(1)).id == first.id
    assert (await queued.enqueue(2)).created
    held = await done.options(key="k").enqueue(1)
    again = await done.options(key="k").enqueue(2)
    assert (again.created, again.id) == (False, held.id)
    assert (await period.enqueue()).created
    await work()

    await eventually(lambda: len(began) == 3)
    assert (await queued.enqueue(1)).created
    assert not (await done.options(key="k").enqueue(1)).created
    assert not (await period.enqueue()).created
    gate.set()

    async def free() -> bool:
        return (await done.options(key="k").enqueue(1)).created

    await eventually(free)
    (name,) = await queue.submitter.wire.ask(("KEYS", "fq:{test}:u:period:*"))
    assert 3_000_000 < await queue.submitter.wire.ask(("PTTL", name)) <= 3_600_000
    assert not (await period.enqueue()).created
    await queue.submitter.wire.ask(("PEXPIRE", name, 1))

    async def over() -> bool:
        return (await period.enqueue()).created

    await eventually(over)


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
