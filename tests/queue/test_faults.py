# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Lost replies, a full server, a worker that comes back, a failover: through real connections."""

import asyncio
import gc
import time
from contextlib import ExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from forktex_core.queue import Queue, QueueUnavailableError
from forktex_core.queue.worker.heartbeat import Heartbeat, Pulse
from tests.queue.conftest import working
from tests.queue.test_cluster import answers, free_port, start
from tests.waiting import eventually


class Proxy:
    """A TCP way to the server. ``swallow``: drop every reply that contains these bytes, and cut
    that connection, once; ``refuse``: cut everything."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self.swallow, self.refuse, self.swallowed = b"", False, 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        user = f"{self._to.netloc.rpartition('@')[0]}@" if "@" in self._to.netloc else ""
        return f"redis://{user}127.0.0.1:{self.port}{self._to.path}"

    async def carry(self, reader, writer) -> None:
        if self.refuse:
            writer.close()
            return
        there, out = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers |= {writer, out}
        await asyncio.gather(self._pump(reader, out, False), self._pump(there, writer, True))
        self._writers -= {writer, out}

    async def _pump(self, reader, writer, replies: bool) -> None:
        try:
            while data := await reader.read(65536):
                if replies and self.swallow and self.swallow in data:
                    self.swallow, self.swallowed = b"", self.swallowed + 1
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        self.refuse = True
        for writer in list(self._writers):
            writer.close()


@asynccontextmanager
async def proxied(url: str):
    proxy = Proxy(url)
    server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()


def noting(queue: Queue, **settings):
    """A job that notes its runs in ``queue.ran``."""
    queue.ran = []

    @queue.job(**settings)
    async def note(number: int) -> None:
        queue.ran.append(number)

    return note


def succeeded(queue: Queue, number: int):
    async def ended() -> bool:
        return (await queue.stats()).counters.get("note", {}).get("succeeded") == number

    return ended


async def test_lost_reply_of_a_delivery(queue, redis_url):
    """Jobs delivered in a reply that never came are found again by their worker, and run once."""
    note = noting(queue)
    async with proxied(redis_url) as proxy, Queue(proxy.url, "test") as far:
        far.jobs, far.ran = queue.jobs, queue.ran
        await queue.enqueue_many([note.call(n) for n in range(20)])
        proxy.swallow = b"\nnote\n"
        async with working(far):
            await eventually(succeeded(queue, 20))
    assert proxy.swallowed == 1
    assert sorted(queue.ran) == list(range(20))
    assert "redelivered" not in (await queue.stats()).counters["note"]


async def test_a_transport_lost_between_two_commands(queue):
    """A connection that the loop has dropped since the last command is a lost connection like any
    other: the next command goes over a new one."""
    wire = queue.submitter.wire
    assert await wire.insist(("PING",)) == b"PONG"
    transport = wire._connection._writer.transport
    transport.abort()
    await eventually(lambda: transport._loop is None)
    assert await wire.insist(("PING",)) == b"PONG"


async def test_a_late_reply_is_nobodys(redis_url):
    """A server that doesn't answer in time is named, and its late reply is not taken for the reply
    to the next command."""
    async with (
        redis.asyncio.Redis.from_url(redis_url) as client,
        Queue(redis_url, timeout=0.3) as q,
    ):
        wire = q.submitter.wire
        await wire.insist(("SET", "mine", "yes"))
        await client.client_pause(60_000, all=False)
        try:
            with pytest.raises(QueueUnavailableError, match=r"no answer in 0\.3 s"):
                await wire.insist(("INCR", "number"))
        finally:
            await client.client_unpause()
        assert await wire.insist(("GET", "mine")) == b"yes"


async def test_a_cancelled_callers_reply_is_nobodys(redis_url):
    """Who stops waiting for a reply leaves it to nobody else."""
    async with redis.asyncio.Redis.from_url(redis_url) as client, Queue(redis_url) as queue:
        wire = queue.submitter.wire
        await wire.insist(("SET", "mine", "yes"))
        await client.client_pause(60_000, all=False)
        try:
            asking = asyncio.create_task(wire.ask(("INCR", "number")))

            async def waits() -> bool:
                return any(one["cmd"] == "incr" for one in await client.client_list())

            await eventually(waits)
            asking.cancel()
            await asyncio.wait([asking])
        finally:
            await client.client_unpause()
        assert await wire.insist(("GET", "mine")) == b"yes"


async def test_a_heartbeat_goes_on_after_any_error(queue):
    """Whatever goes wrong with one sign of life, the next one is given."""
    told = []

    def describe() -> dict:
        told.append(1)
        if len(told) == 1:
            raise ValueError("nobody foresaw this")
        return {}

    pulse = Pulse(queue.new_link(), 0.5, describe, lambda: None)
    heartbeat = Heartbeat("beating", [pulse], time.monotonic, 60)
    heartbeat.start()
    try:
        await eventually(lambda: queue.submitter.wire.ask(("EXISTS", "fq:{test}:hb:beating")))
    finally:
        await heartbeat.close()


async def test_partitioned_worker_comes_back(queue, redis_url):
    """A worker cut off from the server loses its job to another; back again, it stops its own
    run, and settles nothing of it."""
    queue.max_deliveries = 5
    began, stopped, gate = [], [], asyncio.Event()

    @queue.job
    async def stay() -> None:
        began.append(1)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            stopped.append(1)
            raise

    async with (
        proxied(redis_url) as proxy,
        Queue(proxy.url, "test", dead_after=1.0, timeout=1.0) as far,
    ):
        far.jobs = queue.jobs
        await stay.enqueue()
        async with working(far):
            await eventually(lambda: len(began) == 1)
            proxy.cut()
            async with working(queue):
                await eventually(lambda: len(began) == 2)
                proxy.refuse = False
                await eventually(lambda: stopped == [1])
                gate.set()

                async def done() -> bool:
                    return (await queue.stats()).counters["stay"].get("succeeded") == 1

                await eventually(done)
    counters = (await queue.stats()).counters["stay"]
    assert (counters["succeeded"], counters["redelivered"], len(began)) == (1, 1, 2)


async def test_server_out_of_memory(tmp_path):
    """A full server refuses enqueueing with a clear error; running jobs are acknowledged all the
    same, and room makes enqueueing work again."""
    with ExitStack() as stack:
        port = free_port()
        node = start(stack, tmp_path / "one", port, "--maxmemory-policy", "noeviction")
        await eventually(lambda: answers(node))
        async with Queue(f"redis://127.0.0.1:{port}", dead_after=1.0) as queue:
            queue.ran, gate = [], asyncio.Event()

            @queue.job
            async def note(number: int) -> None:
                queue.ran.append(number)
                await gate.wait()

            await queue.enqueue_many([note.call(n) for n in range(10)])
            async with working(queue):
                await eventually(lambda: len(queue.ran) == 10)
                node.config_set("maxmemory", 1)
                with pytest.raises(QueueUnavailableError, match="out of memory"):
                    await note.enqueue(10)
                full_until = time.monotonic() + 1.5
                await eventually(lambda: time.monotonic() > full_until)
                assert node.keys("fq:{default}:hb:*")  # its sign of life was renewed meanwhile
                gate.set()

                async def nothing_held() -> bool:
                    return sum(node.xlen(f"fq:{{default}}:{lane}") for lane in "rqhnl") == 0

                await eventually(nothing_held)
                node.config_set("maxmemory", 0)
                await note.enqueue(11)
                await eventually(lambda: len(queue.ran) == 11)
            assert sorted(queue.ran) == [*range(10), 11]


async def test_failover_to_a_replica(tmp_path):
    """When the address leads to a promoted replica, workers go on; what was replicated runs."""
    with ExitStack() as stack:
        ports = [free_port(), free_port()]
        first = start(stack, tmp_path / "a", ports[0])
        await eventually(lambda: answers(first))
        second = start(stack, tmp_path / "b", ports[1], "--replicaof", "127.0.0.1", str(ports[0]))
        await eventually(lambda: answers(second))
        async with (
            proxied(f"redis://127.0.0.1:{ports[0]}") as proxy,
            Queue(proxy.url, dead_after=1.0, timeout=5.0) as queue,
        ):
            note = noting(queue)
            async with working(queue):
                await note.enqueue(0)
                await eventually(lambda: queue.ran == [0])
                await queue.enqueue_many([note.options(delay=1).call(n) for n in range(1, 20)])
                await eventually(lambda: first.wait(1, 1000) == 1)
                first.shutdown(nosave=True)
                second.replicaof("NO", "ONE")
                proxy.cut()
                proxy._to = urlsplit(f"redis://127.0.0.1:{ports[1]}")
                proxy.refuse = False
                await note.enqueue(20)
                await eventually(lambda: sorted(set(queue.ran)) == list(range(21)))


async def test_unclosed_queue_warns(redis_url):
    """A connected queue that is dropped without close() says so."""
    queue = Queue(redis_url)
    await queue.stats()
    connection = queue.submitter.wire
    holder = [queue]
    del queue
    gc.collect()
    with pytest.warns(ResourceWarning, match=r"await queue\.close"):
        holder.clear()
    await connection.close()


async def test_dead_letter_limit(redis_url):
    """Only the newest dead letters are kept."""
    async with Queue(redis_url, dead_letters=5) as queue:

        @queue.job(retries=0)
        async def fail(number: int) -> None:
            raise ValueError(number)

        await queue.enqueue_many([fail.call(n) for n in range(12)])
        await queue.process(burst=True, signals=False, concurrency=1)
        letters = await queue.failures()
        kept = sorted(int(letter.failure.strip().rpartition(" ")[2]) for letter in letters)
        assert kept == [7, 8, 9, 10, 11]


async def test_flushed_server_is_joined_again(queue, redis_url):
    """A server that was emptied gets its groups back."""
    note = noting(queue)
    async with redis.asyncio.Redis.from_url(redis_url) as client, working(queue):
        await note.enqueue(1)
        await eventually(lambda: queue.ran == [1])
        await client.flushall()
        await note.enqueue(2)
        await eventually(lambda: queue.ran == [1, 2])
