# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the queue promises when processes, connections and servers die."""

import asyncio
import os
import random
import signal
import time
from contextlib import ExitStack

import pytest
import redis.asyncio

from forktex_core.embedded import EmbeddedRedis
from forktex_core.queue import Queue, Worker
from tests.queue import crew
from tests.queue.conftest import working
from tests.waiting import eventually


@pytest.fixture
async def crew_queue(redis_url):
    """The producers' side of the crew's queue."""
    queue = crew.QUEUE
    queue._url = redis_url
    yield queue
    await queue.close()


@pytest.fixture
async def client(redis_url):
    """A plain client."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


async def test_sigkill_redelivers_within_ten_seconds(crew_queue, client, redis_url):
    """By default a job of a killed worker runs again elsewhere in under 10 s, by heartbeat."""
    job = await crew.hold.enqueue(redis_url)
    with crew.worker(redis_url) as first, crew.worker(redis_url) as second:
        await eventually(lambda: client.hget("held", job.id))
        stats = await crew_queue.stats()
        (owner,) = [worker for worker in stats.workers if worker.holding]
        victim = first if owner.info["pid"] == first.pid else second
        victim.kill()

        async def again() -> bool:
            return int(await client.hget("held", job.id)) == 2

        await eventually(again, timeout=10)
        assert (await crew_queue.stats()).counters["hold"]["redelivered"] == 1


async def test_sigterm_gives_back_and_ends(crew_queue, client, redis_url):
    """SIGTERM ends a worker when its jobs have ended."""
    job = await crew.hold.enqueue(redis_url, 0.5)
    with crew.worker(redis_url) as process:
        await eventually(lambda: client.hget("held", job.id))
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: process.poll() is not None)
        assert process.returncode == 0
    stats = await crew_queue.stats()
    assert (stats.waiting, stats.held, stats.workers) == (0, 0, [])
    assert stats.counters["hold"]["succeeded"] == 1


async def test_stop_gives_back_uncounted(queue):
    """A job that is still running after the grace goes back to the front, and its crash count
    stays."""
    started = []

    @queue.job
    async def stay() -> None:
        started.append(1)
        if len(started) == 1:
            await asyncio.Event().wait()

    await stay.enqueue()
    async with working(queue, grace=0.01):
        await eventually(lambda: started)
    assert (await queue.stats()).lanes["returned"].waiting == 1
    async with working(queue):
        await eventually(lambda: len(started) == 2)
    assert "redelivered" not in (await queue.stats()).counters["stay"]


async def killed_worker(queue, take: int = 100) -> None:
    """What a worker that died with jobs in hand leaves behind, without waiting for its sign of
    life."""
    from forktex_core.queue import scripts

    wire, root = queue.submitter.wire, queue.link.root
    await wire.ask(scripts.call("join", root, "gone", "{}", 1))
    await wire.ask(scripts.call("take", root, "gone", take, 1, take, 0))


async def test_killer_is_dead_lettered_and_innocents_live(queue, work):
    """A job that takes its worker down each time is a dead letter after three; what was beside it
    runs."""
    ran = []

    @queue.job
    async def killer() -> None:
        ran.append("killer")

    @queue.job
    async def innocent(number: int) -> None:
        ran.append(number)

    await killer.enqueue()
    await innocent.enqueue(1)
    for _ in range(3):
        await killed_worker(queue)
        await queue.pause()

        async def taken_back() -> bool:
            return not (await queue.stats()).held

        async with working(queue):
            await eventually(taken_back)
        await queue.resume()
    (letter,) = await queue.failures()
    assert (letter.name, letter.reason, letter.crashes) == ("killer", "crashed", 3)
    await work()
    await eventually(lambda: ran == [1])


async def test_real_killer_is_dead_lettered(crew_queue, client, redis_url):
    """A job that kills its worker's process each time ends among the dead letters, and the queue
    goes on."""
    await crew.die.enqueue(redis_url)
    told = await crew.tell.enqueue(redis_url)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(crew.worker(redis_url, "--dead-after=1"))
        (letter,) = await eventually(crew_queue.failures, timeout=20)
        assert (letter.name, letter.reason) == ("die", "crashed")
        assert int(await client.hget("died", letter.job_id)) == 3
        await eventually(lambda: client.hget("told", told.id))


async def test_long_job_is_not_doubled(queue, work):
    """A job that runs longer than a sign of life lasts, even blocking the loop, runs once while
    its worker lives."""
    ran = []

    @queue.job
    async def block() -> None:
        ran.append(1)
        time.sleep(2.5)

    await work()
    await block.enqueue()
    await eventually(lambda: ran)

    async def succeeded() -> bool:
        return (await queue.stats()).counters["block"].get("succeeded") == 1

    await eventually(succeeded)
    assert ran == [1]
    assert "redelivered" not in (await queue.stats()).counters["block"]


async def test_server_restart_loses_nothing(tmp_path):
    """Workers reconnect after a restart of the server (appendonly), nothing is lost, no live job
    is taken for dead."""
    server = EmbeddedRedis(path=tmp_path)
    await server.start()
    ran: list[int] = []
    gate = asyncio.Event()
    async with Queue(server.url, dead_after=1.0, timeout=8) as queue:

        @queue.job
        async def note(number: int) -> None:
            ran.append(number)
            if number == 0:
                await gate.wait()

        async with working(queue):
            await note.enqueue(0)
            await eventually(lambda: ran)
            await queue.enqueue_many([note.options(delay=1).call(n) for n in range(1, 100)])
            await server.kill()
            await server.start()
            await note.enqueue(100)
            await eventually(lambda: len(ran) == 101)
            gate.set()

            async def settled() -> bool:
                stats = await queue.stats()
                return stats.counters["note"].get("succeeded") == 101

            await eventually(settled)
        assert sorted(ran) == list(range(101))
    await server.close()


async def chaos(queue, client, url: str, jobs: int, kills: int) -> None:
    """Kill workers at random while jobs run; check every one of them."""
    chance = random.Random(7)
    await queue.enqueue_many([crew.count.call(n) for n in range(jobs)])
    with ExitStack() as stack:
        crewmen = [stack.enter_context(crew.worker(url)) for _ in range(3)]
        for kill in range(kills):
            goal = (kill + 1) * jobs // (kills + 2)

            async def advanced(goal: int = goal) -> bool:
                return await client.hlen("runs") >= goal

            await eventually(advanced, timeout=60)
            crewmen.pop(chance.randrange(len(crewmen))).kill()
            crewmen.append(stack.enter_context(crew.worker(url)))

        async def done() -> bool:
            stats = await queue.stats()
            return (stats.waiting, stats.held, stats.delayed, stats.limited) == (0, 0, 0, 0)

        await eventually(done, timeout=120)
    runs = {int(k): int(v) for k, v in (await client.hgetall("runs")).items()}
    stats = await queue.stats()
    assert sorted(runs) == list(range(jobs))
    assert stats.dead == 0
    doubled = sum(count - 1 for count in runs.values())
    assert doubled <= stats.counters["count"].get("redelivered", 0) <= 20 * kills


async def test_chaos(crew_queue, client, redis_url):
    """3,000 jobs, two killed workers: each ran, none is lost or stuck, duplicates only of killed
    workers' jobs."""
    await chaos(crew_queue, client, redis_url, 3_000, 2)


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_chaos_campaign(crew_queue, client, redis_url):
    """The same with 50,000 jobs and thirty killed workers."""
    await chaos(crew_queue, client, redis_url, 50_000, 30)


async def test_second_signal_does_not_wait(queue):
    """Told to stop once, a worker waits for its jobs; told again, it gives them back at once."""
    began = []

    @queue.job(timeout=None)
    async def stay() -> None:
        began.append(1)
        await asyncio.Event().wait()

    await stay.enqueue()
    worker = Worker({queue: 1}, signals=False, grace=3600)
    running = asyncio.create_task(worker.run())
    await eventually(lambda: began)
    worker.stop()
    await eventually(lambda: worker.stopping)
    assert not running.done()
    worker.stop()
    await running
    stats = await queue.stats()
    assert (stats.lanes["returned"].waiting, stats.held, stats.workers) == (1, 0, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_of_the_main_thread(queue, number):
    """SIGTERM and SIGINT end ``process`` gracefully, and are as they were afterwards."""
    began, ended, gate = [], [], asyncio.Event()

    @queue.job
    async def stay() -> None:
        began.append(1)
        await gate.wait()
        ended.append(1)

    before = signal.getsignal(number)
    await stay.enqueue()
    running = asyncio.create_task(queue.process())
    await eventually(lambda: began)
    os.kill(os.getpid(), number)
    gate.set()
    await running
    assert ended == [1]
    assert signal.getsignal(number) is before
    stats = await queue.stats()
    assert (stats.held, stats.workers) == (0, [])
