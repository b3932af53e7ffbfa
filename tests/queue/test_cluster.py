# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The queue on a real Cluster of three, and on Debian's redis-server where there is one."""

import shutil
import socket
import subprocess
from contextlib import ExitStack

import pytest
import redis

from forktex_core.embedded.wheels import valkey_program
from forktex_core.queue import Queue
from forktex_core.queue.testing import drain
from tests.queue.conftest import working
from tests.waiting import eventually

SERVER = str(valkey_program())
DEBIANS = shutil.which("redis-server")


def free_port() -> int:
    """A port whose bus port (10,000 above) is a port, too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            if (port := probe.getsockname()[1]) < 50_000:
                return port


def start(stack: ExitStack, folder, port: int, *options: str, program: str = SERVER) -> redis.Redis:
    folder.mkdir()
    command = [program, "--port", str(port), "--dir", str(folder), "--save", "", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return stack.enter_context(redis.Redis(port=port))


def answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


PROGRAMS = [
    SERVER,
    pytest.param(
        DEBIANS or "",
        marks=pytest.mark.skipif(DEBIANS is None, reason="redis-server is not installed"),
    ),
]


@pytest.fixture(params=PROGRAMS, ids=["valkey", "redis-server"])
async def cluster(tmp_path, request):
    """The clients of a fresh Cluster's three nodes."""
    with ExitStack() as stack:
        nodes = [
            start(
                stack,
                tmp_path / str(i),
                free_port(),
                *("--cluster-enabled", "yes"),
                program=request.param,
            )
            for i in range(3)
        ]
        for number, node in enumerate(nodes):
            await eventually(lambda node=node: answers(node))
            first, last = number * 5462, min(number * 5462 + 5461, 16383)
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            port = nodes[0].connection_pool.connection_kwargs["port"]
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", port)

        def whole() -> bool:
            states = [node.execute_command("CLUSTER", "INFO") for node in nodes]
            return all("'ok'" in str(s) or "cluster_state:ok" in str(s) for s in states)

        await eventually(whole)
        yield nodes


async def test_queues_on_every_node(cluster):
    """Queues whose slots lie on different nodes all work, whatever node the URL names."""
    port = cluster[0].connection_pool.connection_kwargs["port"]
    for name in ("a", "b", "c", "d", "e"):
        ran = []
        async with Queue(f"redis://127.0.0.1:{port}", name) as queue:

            @queue.job(unique="done", keep=10)
            async def note(number: int) -> None:
                seen.append(number)  # noqa: B023 - it runs before the next one is made

            seen = ran
            await queue.enqueue_many([note.call(n) for n in range(100)])
            await note.options(delay=0.05).enqueue(100)
            async with working(queue):
                await eventually(lambda: len(seen) == 101)  # noqa: B023 - awaited here
    assert sum(node.dbsize() > 0 for node in cluster) >= 2


async def test_worker_follows_a_slot(cluster):
    """When the queue's slot moves to another node, its worker and its callers follow, and nothing
    is lost."""
    ports = [node.connection_pool.connection_kwargs["port"] for node in cluster]
    ran = []
    async with Queue(f"redis://127.0.0.1:{ports[0]}", "moving", dead_after=1.0) as queue:

        @queue.job
        async def note(number: int) -> None:
            ran.append(number)

        slot = cluster[0].execute_command("CLUSTER", "KEYSLOT", queue.link.root)
        names = [node.execute_command("CLUSTER", "MYID") for node in cluster]
        home = next(i for i, node in enumerate(cluster) if holds(node, slot))
        there = (home + 1) % 3
        async with working(queue):
            await note.enqueue(0)
            await eventually(lambda: ran == [0])
            await note.options(delay=1).enqueue(1)
            cluster[there].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[home])
            cluster[home].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[there])

            def emptied() -> bool:
                keys = cluster[home].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
                if keys:
                    words = ("127.0.0.1", ports[there], "", 0, 5000, "KEYS", *keys)
                    cluster[home].execute_command("MIGRATE", *words)
                return not keys

            await eventually(emptied)
            for node in (cluster[there], cluster[home]):
                node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[there])
            await note.enqueue(2)
            await eventually(lambda: sorted(ran) == [0, 1, 2])
    assert holds(cluster[there], slot)


def holds(node: redis.Redis, slot: int) -> bool:
    """Whether a node says that the slot is its own."""
    for first, last, (_, port, *_), *_ in node.execute_command("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return port == node.connection_pool.connection_kwargs["port"]
    return False


@pytest.mark.skipif(DEBIANS is None, reason="redis-server is not installed")
async def test_debian_redis(tmp_path):
    """The same on the redis-server of the distribution."""
    with ExitStack() as stack:
        port = free_port()
        node = start(stack, tmp_path / "one", port, program=DEBIANS)
        await eventually(lambda: answers(node))
        ran = []
        async with Queue(f"redis://127.0.0.1:{port}") as queue:

            @queue.job(unique="queued")
            async def note(number: int) -> None:
                ran.append(number)

            await queue.enqueue_many([note.call(n) for n in range(10)])
            await drain(queue)
            node.config_set("maxmemory", 1)
            assert sorted(ran) == list(range(10))
