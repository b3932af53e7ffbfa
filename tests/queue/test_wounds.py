# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The wounds of other queues (RESEARCH.md, section 6), each a test here.

Beside these: jobs before the first worker, `test_semantics.test_jobs_before_the_first_worker`; an
outbox that survives a crash, `test_outbox`; pickles, `test_wire_is_json` below."""

import asyncio
import json
import pickletools
import time

import pytest
import redis.asyncio

from forktex_core.queue import Concurrency, Queue, scripts
from forktex_core.queue.testing import drain
from tests.queue import crew
from tests.queue.conftest import working
from tests.queue.test_crashes import killed_worker
from tests.queue.test_faults import proxied
from tests.waiting import eventually


@pytest.fixture
async def client(redis_url):
    """A plain client."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


async def test_nothing_stays_locked_after_a_crash(queue, work):
    """Stuck after a crash (arq#343): a job whose worker died keeps neither its unique key's twin,
    nor its limit's slot, nor itself from running."""
    ran = []

    @queue.job(unique="done", limits=[Concurrency(1)])
    async def sync(number: int) -> None:
        ran.append(number)

    await sync.enqueue(1)
    await sync.enqueue(2)
    wire, root = queue.submitter.wire, queue.link.root
    await killed_worker(queue, take=1)
    (pending,) = await wire.ask(("XPENDING", f"{root}:n", "w", "-", "+", 1))
    (entry,) = await wire.ask(("XRANGE", f"{root}:n", pending[0], pending[0]))
    slot = ("c", "sync:0", 1, 0)
    assert await wire.ask(
        scripts.call("admit", root, "n", pending[0], entry[1][1], "", 1, *slot)
    ) == [1]
    await work()
    await eventually(lambda: sorted(ran) == [1, 2])

    async def all_free() -> bool:
        return (await sync.enqueue(1)).created

    await eventually(all_free)
    await eventually(lambda: len(ran) == 3)


async def test_worker_survives_a_blip(queue, redis_url):
    """A worker that dies on a Redis blip (arq#435): every connection is cut, three times over and
    in the middle of work; the worker stays, and runs everything once."""
    ran = []

    @queue.job
    async def note(number: int) -> None:
        ran.append(number)

    async with proxied(redis_url) as proxy, Queue(proxy.url, "test", timeout=2.0) as far:
        far.jobs = queue.jobs
        async with working(far):
            for blip in range(3):
                await queue.enqueue_many([note.call(blip * 100 + n) for n in range(100)])
                await eventually(lambda: ran)
                proxy.cut()
                proxy.refuse = False
                await eventually(lambda blip=blip: len(set(ran)) == 100 * (blip + 1))

            async def settled() -> bool:
                return (await queue.stats()).counters["note"].get("succeeded") == 300

            await eventually(settled)
    assert sorted(ran) == list(range(300))


async def test_live_jobs_are_not_swept(queue, work):
    """Live jobs swept (saq#277): jobs that run longer than a sign of life lasts, and jobs that wait
    long, are touched by no sweep while others come and go."""
    gate, began, ran = asyncio.Event(), [], []

    @queue.job(timeout=None)
    async def long() -> None:
        began.append(1)
        await gate.wait()

    @queue.job
    async def short() -> None:
        ran.append(1)

    await work(concurrency=2)
    await queue.enqueue_many([long.call()] * 2)
    await eventually(lambda: len(began) == 2)
    waiting = await short.enqueue()
    await work(concurrency=0 + 1)
    await eventually(lambda: ran == [1])
    wire, root = queue.submitter.wire, queue.link.root
    judged: set[bytes] = set()

    async def judged_often() -> bool:
        """Signs of life last a second here: ten judgements are two lives."""
        holder = await wire.ask(("PTTL", f"{root}:judge"))
        if holder > 0:
            judged.add((await wire.ask(("TIME",)))[0])
        return len(judged) >= 4

    await eventually(judged_often)
    gate.set()

    async def done() -> bool:
        return (await queue.stats()).counters["long"].get("succeeded") == 2

    await eventually(done)
    assert len(began) == 2
    assert "redelivered" not in (await queue.stats()).counters["long"]
    assert waiting.created


async def test_streams_do_not_grow(queue):
    """Streams that grow for ever: whatever way jobs end, the streams are empty after them."""

    @queue.job(retries=0)
    async def end(way: str) -> None:
        if way == "fails":
            raise ValueError(way)

    for way in ("succeeds", "fails"):
        await queue.enqueue_many([end.call(way) for _ in range(50)])
    await queue.enqueue_many([end.options(expires=0).call("expires") for _ in range(50)])
    for _ in range(50):
        await (await end.enqueue("cancelled")).cancel()
    await drain(queue)
    counters = (await queue.stats()).counters["end"]
    assert {way: n for way, n in counters.items() if way != "enqueued"} == {
        "succeeded": 50,
        "failed": 50,
        "expired": 50,
        "cancelled": 50,
    }
    wire, root = queue.submitter.wire, queue.link.root
    for lane in "rqhnl":
        assert await wire.ask(("XLEN", f"{root}:{lane}")) == 0
        assert (await wire.ask(("XPENDING", f"{root}:{lane}", "w")))[0] == 0


async def test_notices_and_results_are_trimmed(queue):
    """The streams of notices and of ended results are bounded, however much goes through them."""

    @queue.job(keep=60)
    async def noop() -> None: ...

    for _ in range(3):
        await queue.enqueue_many([noop.call() for _ in range(1000)])
        await drain(queue)
    wire, root = queue.submitter.wire, queue.link.root
    for number in range(3000):
        await wire.ask(scripts.call("cancel", root, f"nobody-{number}"))
    for stream in "ek":
        assert await wire.ask(("XLEN", f"{root}:{stream}")) < 1200


async def test_a_killed_judge_leaves_no_lock(queue, work):
    """A lock left by SIGKILL (taskiq-redis#131): a worker that is killed while it holds the
    judgement doesn't keep others from taking jobs back."""
    ran = []

    @queue.job
    async def note() -> None:
        ran.append(1)

    await note.enqueue()
    await killed_worker(queue)
    wire, root = queue.submitter.wire, queue.link.root
    ticked = await wire.ask(scripts.call("tick", root, "gone", 1, 3, 10, 200, 0))
    assert ticked
    assert 0 < await wire.ask(("PTTL", f"{root}:judge")) <= 200  # it expires by itself
    assert await wire.ask(("GET", f"{root}:judge")) == b"gone"
    await work()
    await eventually(lambda: ran == [1])


async def test_nothing_is_lost_by_default(client, redis_url):
    """Lost by default: the defaults of queue and job, a worker killed with jobs in hand and more
    of them waiting; every job runs."""
    crew.QUEUE._url = redis_url
    try:
        jobs = [await crew.tell.enqueue(redis_url) for _ in range(20)]
        jobs.append(await crew.hold.enqueue(redis_url))
        with crew.worker(redis_url, "--dead-after=1") as first:
            await eventually(lambda: client.hget("held", jobs[-1].id))
            first.kill()
            first.wait()
            late = [await crew.tell.enqueue(redis_url) for _ in range(20)]
            with crew.worker(redis_url, "--dead-after=1"):

                async def all_ran() -> bool:
                    told = await client.hkeys("told")
                    twice = int(await client.hget("held", jobs[-1].id)) == 2
                    return twice and {job.id.encode() for job in (*jobs[:-1], *late)} <= {*told}

                await eventually(all_ran)
    finally:
        await crew.QUEUE.close()


async def test_prefetched_jobs_do_not_age(queue, redis_url):
    """A worker takes only what it has room to start: with one slot, the other jobs stay in the
    stream for others."""
    gate, began = asyncio.Event(), []

    @queue.job
    async def stay(number: int) -> None:
        began.append(number)
        await gate.wait()

    await queue.enqueue_many([stay.call(n) for n in range(5)])
    async with working(queue, concurrency=1):
        await eventually(lambda: began == [0])
        stats = await queue.stats()
        assert (stats.held, stats.waiting) == (1, 4)
        gate.set()
        await eventually(lambda: began == [0, 1, 2, 3, 4])


async def test_returned_jobs_do_not_starve_the_others(queue):
    """A flood of jobs that came back (of limits, of dead workers) takes half of the places, not
    all; the priorities share the rest as always."""
    order = []

    @queue.job
    async def note(lane: str) -> None:
        order.append(lane)

    wire, root = queue.submitter.wire, queue.link.root
    for lane, priority in (("h", "high"), ("n", "normal"), ("l", "low")):
        await queue.enqueue_many([note.options(priority=priority).call(lane) for _ in range(60)])
    envelopes = [note.call("r").envelope() for _ in range(100)]
    for envelope in envelopes:
        await wire.ask(("XADD", f"{root}:r", "*", "m", envelope.message.encode()))
    await drain(queue, concurrency=1)
    first = order[:100]
    assert [first.count(lane) for lane in "rhnl"] == [50, 30, 15, 5]
    assert len(order) == 280


async def test_wire_is_json(queue):
    """Never a pickle: what is stored are text lines whose options and arguments are JSON."""

    @queue.job
    async def note(names: list[str], moment: float) -> None: ...

    await note.options(key="k", keep=5).enqueue(["a\nb", "ü"], time.time())
    ((_, fields),) = await queue.submitter.wire.ask(("XRANGE", "fq:{test}:n", "-", "+"))
    _, name, options, arguments = fields[1].decode().split("\n", 3)
    assert name == "note"
    assert json.loads(options)["k"] == "k"
    assert json.loads(arguments)["names"] == ["a\nb", "ü"]
    with pytest.raises(ValueError, match="opcode"):
        pickletools.dis(fields[1])
