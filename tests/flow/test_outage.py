# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What keeps the database from doing its work: a full disk, cut connections, a server that is away.

Each time the worker waits, with growing pauses, and goes on where it was; the log says so once.
"""

import asyncio
import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import DatabaseUnavailableError, Flow, FlowContext, StepContext
from tests.waiting import eventually

RUNS, STEPS = 20, 20


def register(flow: Flow, ran: Counter[tuple[str, int]], size: int = 10) -> None:
    """A chain of steps with results of a size, which no compression makes smaller."""

    @flow.step
    async def effect(ctx: StepContext, number: int) -> str:
        ran[str(ctx.run_id), number] += 1
        return os.urandom(size).hex()

    @flow.workflow(name="chain")
    async def chain(ctx: FlowContext) -> int:
        return len([await effect(ctx, n) for n in range(STEPS)])


@asynccontextmanager
async def working(flow: Flow) -> AsyncIterator[None]:
    """A worker of an open Flow."""
    task = asyncio.create_task(flow.run_worker())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def said(caplog) -> list[str]:
    """What the log says above the level of details, about the database."""
    return [
        r.getMessage() for r in caplog.records
        if r.levelno >= logging.INFO and "database" in r.getMessage()
    ]  # fmt: skip


def most_tries(seconds: float) -> int:
    """How often something is tried at most in so many seconds, with the pauses of Backoff."""
    pauses, total, tries = 0.05, 0.0, 1
    while total < seconds:
        total += pauses / 2  # the shortest that jitter makes of it
        pauses = min(pauses * 2, 5.0)
        tries += 1
    return tries


@pytest.fixture
def small_disk(tmp_path_factory) -> Iterator[Path]:
    """A file system of 40 MB that the embedded server may write to."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m,mode=777", "none", folder],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("mounting a small disk takes root")
    for parent in folder.parents[:3]:  # pytest's own are closed to the server's user
        parent.chmod(parent.stat().st_mode | 0o011)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk(small_disk: Path, caplog) -> None:
    """The disk is full while 20 runs are at work: what can't be written waits, a caller gets one
    clear error, and when there is room again each run ends right and no step runs twice.
    """
    caplog.set_level(logging.INFO, "forktex_core.flow")
    ran: Counter[tuple[str, int]] = Counter()
    async with EmbeddedPostgres(durable=False) as server:
        space = small_disk / "space"
        space.mkdir()
        os.chown(space, (small_disk.parent / ".").stat().st_uid, -1)
        space.chmod(0o777)
        if os.geteuid() == 0:
            import pwd

            os.chown(space, pwd.getpwnam("nobody").pw_uid, -1)
        admin = await asyncpg.connect(server.dsn)
        await admin.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        await admin.execute("CREATE DATABASE small TABLESPACE small")
        flow = Flow(server.dsn.rpartition("/")[0] + "/small")
        register(flow, ran, size=4000)
        async with flow, working(flow):
            ballast = small_disk / "ballast"
            fill(ballast, leave=1 << 20)
            ids = await flow.start_many("chain", [None] * RUNS)
            await eventually(lambda: said(caplog))
            assert "No space left on device" in said(caplog)[0]
            before, began = flow._workers[0]._journal.flushes, time.monotonic()
            with pytest.raises(DatabaseUnavailableError, match="No space left"):
                for _ in range(1000):
                    await flow.start("chain", metadata={"ballast": os.urandom(3000).hex()})
            await eventually(lambda: flow._workers[0]._journal.flushes >= before + 3)
            tries = flow._workers[0]._journal.flushes - before
            assert tries <= most_tries(time.monotonic() - began)
            ballast.unlink()
            results = await asyncio.gather(*(flow.result(i, timeout=60) for i in ids))
            assert results == [STEPS] * RUNS
        await admin.close()
    mine = {str(i) for i in ids}
    assert {n for (run, _), n in ran.items() if run in mine} == {1}
    assert [line for line in said(caplog) if "fails" in line] == said(caplog)[:1]
    assert said(caplog)[1:] == ["the database works again"]


def fill(file: Path, leave: int) -> None:
    """Take all the room of a file's disk but some."""
    stat = os.statvfs(file.parent)
    with file.open("wb") as out, suppress(OSError):
        out.write(bytes(stat.f_bavail * stat.f_frsize - leave))


FULL = """
CREATE FUNCTION "{schema}".refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_{table} BEFORE {events} ON "{schema}".{table}
EXECUTE FUNCTION "{schema}".refuse();
"""


@pytest.mark.parametrize(
    ("table", "events"),
    [
        ("journal", "INSERT"),
        ("run", "UPDATE OF status"),
        ("run", "INSERT OR UPDATE"),
        ("worker", "UPDATE"),
        ("signal", "INSERT OR UPDATE"),
        ("leader", "UPDATE"),
        ("published", "INSERT"),
        ("booking", "INSERT"),
    ],
)
async def test_a_write_that_finds_no_room(
    flow: Flow, sql, schema: str, caplog, table: str, events: str
) -> None:
    """Whichever table can't grow: what writes to it waits, nothing is lost, and each loop says it
    in one line for all. (The error is one of the server's own, raised where it would be.)
    """
    caplog.set_level(logging.INFO, "forktex_core.flow")
    ran: Counter[tuple[str, int]] = Counter()
    register(flow, ran)

    @flow.step(transactional=True)
    async def book(ctx: StepContext) -> None:
        await ctx.session.execute(text(f'INSERT INTO "{schema}".booking VALUES (1)'))

    @flow.workflow(name="waits")
    async def waits(ctx: FlowContext) -> int:
        first = await ctx.wait_signal("go")
        await ctx.send_signal(ctx.run_id, "again", 2)
        await ctx.sleep(0.3)
        await ctx.publish("first", first)
        await book(ctx)
        return first + await ctx.wait_signal("again")

    async with flow, working(flow):
        ids = await flow.start_many("chain", [None] * 5)
        waiting = await flow.start("waits")
        await flow.send_signal(waiting, "go", 1)
        await sql.execute("CREATE TABLE booking (number integer)")
        await sql.execute(FULL.format(schema=schema, table=table, events=events))
        await eventually(lambda: said(caplog), timeout=20)
        await sql.execute(f"DROP TRIGGER full_{table} ON {table}")
        assert await asyncio.gather(*(flow.result(i, timeout=20) for i in ids)) == [STEPS] * 5
        assert await flow.result(waiting, timeout=20) == 3
        await eventually(lambda: not flow._outage._failing)
    assert set(ran.values()) == {1}
    assert await sql.fetchval("SELECT count(*) FROM booking") == 1
    assert "No space left" in said(caplog)[0]
    assert said(caplog)[1:] == ["the database works again"]


async def test_connections_cut_mid_statement(flow: Flow, sql, postgres, schema, caplog) -> None:
    """Every statement that is under way is cut off, again and again: what it did is undone or
    recognised, no step runs twice.
    """
    caplog.set_level(logging.INFO, "forktex_core.flow")
    ran: Counter[tuple[str, int]] = Counter()
    register(flow, ran)
    blocking = await asyncpg.connect(postgres.dsn)
    cut: Counter[str] = Counter()
    try:
        async with flow, working(flow):
            ids = []
            for table in ("journal", "run", "worker", "journal", "run"):
                before = len(ran)
                ids += await flow.start_many("chain", [None] * RUNS)
                await eventually(lambda before=before: len(ran) > before)
                transaction = blocking.transaction()
                await transaction.start()
                await blocking.execute(f'LOCK TABLE "{schema}".{table} IN ACCESS EXCLUSIVE MODE')
                stuck = await eventually(lambda: waiting_for_locks(sql))
                await sql.execute(
                    "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", [*stuck]
                )
                cut.update(stuck.values())
                await transaction.rollback()
            results = await asyncio.gather(*(flow.result(i, timeout=30) for i in ids))
            assert results == [STEPS] * len(ids)
    finally:
        await blocking.close()
    assert cut.total() >= 5, cut
    assert set(ran.values()) == {1}


async def waiting_for_locks(sql) -> dict[int, str]:
    rows = await sql.fetch(
        "SELECT pid, application_name FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND application_name LIKE 'forktex-flow%'"
    )
    return {row["pid"]: row["application_name"] for row in rows}


class Door:
    """A way to Postgres that can be shut: then it hangs up on whoever comes, and counts them."""

    def __init__(self, dsn: str) -> None:
        address = urlsplit(dsn)
        self._upstream = (str(address.hostname), address.port or 5432)
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.shut = False
        self.turned_away: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang_up(self) -> None:
        """Cut everything that is open."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError):
            startup = await reader.read(4096)
            if self.shut:
                words = startup.split(b"\0")
                place = words.index(b"application_name") if b"application_name" in words else -1
                self.turned_away[words[place + 1].decode()] += 1
            else:
                await self._pass(startup, reader, writer)
        self._open.discard(writer)
        writer.transport.abort()
        self._tasks.discard(task)

    async def _pass(
        self, startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        self._open |= {writer, up_writer}
        up_writer.write(startup)
        pipes = [
            asyncio.create_task(copy(reader, up_writer)),
            asyncio.create_task(copy(up_reader, writer)),
        ]
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        self._open.discard(up_writer)
        up_writer.transport.abort()


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()


async def test_a_server_that_is_away_is_asked_less_and_less(postgres, schema: str, caplog) -> None:
    """While nothing answers, each of the worker's connections is tried with growing pauses; the log
    has one line when it begins and one when it is over; the runs go on.
    """
    caplog.set_level(logging.INFO, "forktex_core.flow")
    ran: Counter[tuple[str, int]] = Counter()
    async with Door(postgres.dsn) as door:
        port = urlsplit(postgres.dsn).port
        flow = Flow(
            postgres.dsn.replace(f":{port}/", f":{door.port}/") + "?sslmode=disable", schema=schema
        )
        register(flow, ran)
        async with flow, working(flow):
            ids = await flow.start_many("chain", [None] * RUNS)
            results = asyncio.gather(*(flow.result(i, timeout=30) for i in ids))
            await eventually(lambda: len(ran) > RUNS)
            door.shut, began = True, time.monotonic()
            door.hang_up()
            await eventually(lambda: door.turned_away["forktex-flow pulse"] >= 4, timeout=20)
            turned_away, seconds = Counter(door.turned_away), time.monotonic() - began
            door.shut = False
            assert await results == [STEPS] * RUNS
            await eventually(lambda: not flow._outage._failing)
    named = {name: n for name, n in turned_away.items() if name != "forktex-flow"}
    assert len(named) >= 2, turned_away  # what has nothing to do is not tried
    assert max(named.values()) <= most_tries(seconds), (turned_away, seconds)
    assert set(ran.values()) == {1}
    assert len([line for line in said(caplog) if "fails" in line]) == 1, said(caplog)
    assert said(caplog)[-1] == "the database works again"
