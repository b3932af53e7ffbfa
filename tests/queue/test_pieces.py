# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What no other test looks at alone: expiry of results, batches of all kinds, hooks and middleware
that fail, plain functions, several queues."""

import asyncio
import threading

import pytest

from forktex_core.queue import JobFailedError, Queue, Worker, current_job
from forktex_core.queue.testing import drain, inline
from tests.queue.conftest import working
from tests.waiting import eventually


async def test_a_result_expires(queue):
    """A kept result goes by itself after its time; a longer ``keep`` of one enqueueing counts."""

    @queue.job(keep=5)
    async def noop() -> None: ...

    short, long = await noop.enqueue(), await noop.options(keep=5000).enqueue()
    await drain(queue)
    wire, root = queue.submitter.wire, queue.link.root
    assert 0 < await wire.ask(("PTTL", f"{root}:o:{short.id}")) <= 5_000
    assert 4_000_000 < await wire.ask(("PTTL", f"{root}:o:{long.id}")) <= 5_000_000
    assert await short.result() is None


async def test_a_batch_ends_however_its_jobs_end(queue):
    """The callback comes once, after jobs that succeeded, failed, expired, were cancelled, or were
    there already; it counts all that did not succeed."""
    seen = []

    @queue.job(retries=0, unique="done")
    async def part(way: str) -> None:
        if way == "fails":
            raise ValueError(way)

    @queue.job
    async def report() -> None:
        seen.append(current_job().batch)

    calls = [part.call("succeeds"), part.call("succeeds"), part.call("fails")]
    calls += [part.options(expires=0).call("expires"), part.call("cancelled")]
    batch = await queue.batch(calls, then=report.call())
    assert [job.created for job in batch.jobs] == [True, False, True, True, True]
    assert await batch.left() == 4
    await batch.jobs[4].cancel()
    await drain(queue)
    assert seen == [(5, 3)]
    assert await batch.left() == 0


async def test_a_burst_on_a_server_without_scripts(queue):
    """A burst runs what its last job enqueued, also when the server had to learn the scripts (then
    jobs are taken before the outcome is written)."""
    ran = []

    @queue.job
    async def note(name: str) -> None:
        ran.append(name)

    await queue.batch([note.call("part")], then=note.call("report"))
    await queue.submitter.wire.ask(("SCRIPT", "FLUSH"))
    await drain(queue)
    assert ran == ["part", "report"]


async def test_a_batch_inline(queue):
    """Inline, a batch runs its jobs, then its callback, with the numbers."""
    seen = []

    @queue.job
    async def part(number: int) -> None:
        seen.append(number)

    @queue.job
    async def report() -> None:
        seen.append(current_job().batch)

    with inline(queue):
        await queue.batch([part.call(1), part.call(2)], then=report.call())
    assert seen == [1, 2, (2, 0)]


async def test_inline_state(queue):
    """Inline, jobs find the state that they are given, as if start-up hooks had made it."""

    @queue.job
    def greet() -> str:
        return current_job().state["greeting"]

    with inline(queue, greeting="hello") as ran:
        await greet.enqueue()
    assert [job.result for job in ran.jobs] == ["hello"]
    assert queue.transport is None


async def test_plain_functions_run_beside_each_other(queue, work):
    """Plain functions run in threads, as many at once as the worker may, with their context."""
    meeting, names = threading.Barrier(3, timeout=10), []

    @queue.job(keep=60)
    def meet(number: int) -> int:
        names.append(threading.current_thread().name)
        meeting.wait()
        assert current_job().name == "meet"
        return number

    await work(concurrency=3)
    jobs = await queue.enqueue_many([meet.call(n) for n in range(3)])
    assert [await job.result(10) for job in jobs] == [0, 1, 2]
    assert len(set(names)) == 3
    assert threading.main_thread().name not in names


async def test_middleware_sees_failures_and_may_answer(queue, work):
    """What a layer raises fails the job; what it returns is the result; what a job raises reaches
    it."""
    seen = []

    @queue.middleware
    async def watch(context, call_next):
        try:
            return await call_next()
        except ValueError as error:
            seen.append((context.name, str(error)))
            return "mended"

    @queue.middleware
    async def guard(context, call_next):
        if context.key == "forbidden":
            raise PermissionError("not yours")
        return await call_next()

    @queue.job(keep=60, retries=0)
    async def fail() -> str:
        raise ValueError("broken")

    await work()
    assert await (await fail.enqueue()).result(10) == "mended"
    assert seen == [("fail", "broken")]
    with pytest.raises(JobFailedError, match="not yours"):
        await (await fail.options(key="forbidden").enqueue()).result(10)


async def test_hooks_open_and_close_what_jobs_need(redis_url):
    """Start-up hooks run in their order, shut-down hooks in the reverse, around all queues of a
    worker; jobs find what was opened."""
    seen = []
    async with Queue(redis_url, "first") as first, Queue(redis_url, "second") as second:
        for queue in (first, second):
            for step in ("pool", "client"):

                @queue.on_startup
                async def begin(state, name=f"{queue.name} {step}") -> None:
                    seen.append(f"open {name}")
                    state[name] = name

                @queue.on_shutdown
                def end(state, name=f"{queue.name} {step}") -> None:
                    seen.append(f"close {state[name]}")

            @queue.job
            async def use() -> None:
                seen.append(len(current_job().state))

            await use.enqueue()
        await Worker({first: 1, second: 1}, burst=True, signals=False).run()
    names = [f"{queue} {step}" for queue in ("first", "second") for step in ("pool", "client")]
    assert seen[:4] == [f"open {name}" for name in names]
    assert seen[4:6] == [4, 4]
    assert sorted(seen[6:]) == sorted(f"close {name}" for name in names)
    assert seen.index("close first client") < seen.index("close first pool")


async def test_pause_outlasts_every_process(queue, redis_url):
    """A queue that was paused is paused for workers that come later, too; running jobs go on."""
    gate, began = asyncio.Event(), []

    @queue.job
    async def stay() -> None:
        began.append(1)
        await gate.wait()

    await stay.enqueue()
    async with working(queue, grace=10):
        await eventually(lambda: began)
        async with Queue(redis_url, "test") as other:
            await other.pause()
        gate.set()

        async def done() -> bool:
            return (await queue.stats()).counters["stay"].get("succeeded") == 1

        await eventually(done)
        await stay.enqueue()
    await drain(queue)
    assert (await queue.stats()).waiting == 1
    assert began == [1]
    await queue.resume()
    await drain(queue)
    assert began == [1, 1]


async def test_enqueue_from_a_job(queue):
    """A job may enqueue others, on its own queue, also while a burst ends."""
    ran = []

    @queue.job
    async def chain(left: int) -> None:
        ran.append(left)
        if left:
            await chain.enqueue(left - 1)

    await chain.enqueue(5)
    await drain(queue, concurrency=1)
    assert ran == [5, 4, 3, 2, 1, 0]
