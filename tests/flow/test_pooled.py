# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Behind a real PgBouncer in transaction mode, with and without a way around it; and who leads."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from forktex_core.flow import Flow, FlowContext
from forktex_core.flow.store.connection import connect
from forktex_core.flow.store.sql import queries
from tests.conftest import Database
from tests.db.test_pooler import MISSING, PGBOUNCER, command, configuration, free_port
from tests.waiting import eventually


@pytest.fixture
async def pooler(database: Database) -> AsyncIterator[str]:
    """The URL of the test's database through PgBouncer, which has three connections to share."""
    if PGBOUNCER is None:
        pytest.skip(MISSING)
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="pgb"))
    config = configuration(folder, port, database.url)
    process = await asyncio.create_subprocess_exec(
        *command(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    url = make_url(database.url).set(drivername="postgresql", host="127.0.0.1", port=port, query={})
    dsn = url.render_as_string(hide_password=False)

    async def answers() -> bool:
        with suppress(OSError, asyncpg.PostgresError):
            await (await asyncpg.connect(dsn, statement_cache_size=0)).close()
            return True
        return False

    try:
        await eventually(answers)
        yield dsn
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder)


@pytest.fixture
async def direct(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection past the pooler, to see what goes on."""
    connection = await asyncpg.connect(
        database.dsn, server_settings={"search_path": "forktex_flow"}
    )
    yield connection
    await connection.close()


def register(flow: Flow) -> Flow:
    async def add(a: int, b: int) -> int:
        return a + b

    @flow.workflow(name="sums")
    async def sums(ctx: FlowContext, n: int) -> int:
        total = 0
        for number in range(n):
            total = await ctx.step(add, total, number)
        await ctx.sleep(0.3)
        return total + await ctx.wait_signal("more", int)

    return flow


LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"


async def listening(pooler: str) -> set[str]:
    """What the pooler's connections to the server listen to, seen through each of them."""
    clients = [await asyncpg.connect(pooler, statement_cache_size=0) for _ in range(3)]
    found: set[str] = set()
    try:
        for client in clients:
            await client.execute("BEGIN")  # from here on it has a server's connection for itself
            found |= {r[0] for r in await client.fetch("SELECT pg_listening_channels()")}
    finally:
        for client in clients:
            await client.close()
    return found


async def exercise(flow: Flow, pooler: str) -> None:
    """Runs, signals, sessions, control and a schedule."""
    ids = await flow.start_many("sums", [5] * 20)
    engine = create_async_engine(
        pooler.replace("postgresql:", "postgresql+asyncpg:"),
        connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0},
    )
    async with AsyncSession(engine) as session, session.begin():
        ids.append(await flow.start("sums", 5, session=session))
    await engine.dispose()
    await flow.schedule("s", "sums", every=1, input=3)
    await asyncio.gather(*(flow.send_signal(i, "more", 1) for i in ids))
    results = await asyncio.gather(*(flow.result(i, timeout=30) for i in ids))
    assert results == [11] * 21


async def test_all_of_it_behind_a_transaction_pooler(pooler: str, direct) -> None:
    """With pooled=True everything works through the pooler alone: a worker leads by the lease, runs
    finish, schedules fire; no session lock is taken, nothing listens, and nothing stays behind on
    the pooler's connections.
    """
    async with register(Flow(pooler, pooled=True)) as flow:
        task = asyncio.create_task(flow.run_worker(lease=3))
        await exercise(flow, pooler)
        assert await direct.fetchval(LOCKS) == 0
        row = await direct.fetchrow("SELECT worker_id, locked FROM leader")
        assert row["worker_id"] is not None
        assert not row["locked"]
        await eventually(
            lambda: direct.fetchval("SELECT count(*) >= 1 FROM run WHERE schedule = 's'")
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await direct.fetchval(LOCKS) == 0
    assert await listening(pooler) == set()


async def test_a_way_around_the_pooler(pooler: str, database: Database, direct) -> None:
    """With direct_url= session locks are held on direct connections only, and gone with them; the
    leader leads by its lock.
    """
    async with register(Flow(pooler, pooled=True, direct_url=database.dsn)) as flow:
        task = asyncio.create_task(flow.run_worker())
        await exercise(flow, pooler)
        await eventually(lambda: direct.fetchval("SELECT locked FROM leader"))
        holders = await direct.fetch(
            "SELECT DISTINCT a.application_name FROM pg_locks k JOIN pg_stat_activity a USING (pid)"
            " WHERE k.locktype = 'advisory'"
        )
        assert [r[0] for r in holders] == ["forktex-flow pulse"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: direct.fetchval(f"SELECT ({LOCKS}) = 0"))


async def test_a_dead_workers_runs_go_on_behind_a_pooler(pooler: str, direct) -> None:
    """Where no lock tells of a death, the lease does: the runs of a worker that is silent are
    handed on, also when it led.
    """
    async with register(Flow(pooler, pooled=True)) as flow:
        await flow.start("sums", 5)
        dead = await direct.fetchval(
            "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock, heartbeat_at)"
            " VALUES ('t', 't', 1, '{}', '{}', 1, false, now() - interval '1 minute') RETURNING id"
        )
        await direct.execute(
            "UPDATE leader SET worker_id = $1, term = 7, seen_at = now() - interval '1 minute'",
            dead,
        )
        claim = queries("forktex_flow")["claim_runs"]
        assert len(await direct.fetch(claim, dead, ["default"], ["sums@1"], 5, [], [])) == 1
        task = asyncio.create_task(flow.run_worker(lease=3))
        await eventually(lambda: direct.fetchval("SELECT claim >= 2 FROM run"))
        assert await direct.fetchval("SELECT term FROM leader") == 8
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# Who leads: the row is the authority, the lock the fast path


LEASE = timedelta(minutes=5)


class Candidate:
    """A worker of which only the ticks matter, on a connection of its own."""

    def __init__(
        self, connection: asyncpg.Connection, schema: str, number: int, locks: bool
    ) -> None:
        self.connection, self.schema, self.number = connection, schema, number
        self.lock_class = 77 if locks else None

    async def tick(self) -> int | None:
        row = await self.connection.fetchrow(
            queries(self.schema)["tick"], self.number, self.lock_class, ["q"], ["l"], [], [], True,
            False, LEASE, timedelta(),
        )  # fmt: skip
        self.predecessor = row["predecessor"]
        return row["term"]


@pytest.fixture
async def candidates(flow: Flow, postgres, schema, sql) -> AsyncIterator[object]:
    """Make candidates; their connections are closed afterwards."""
    made: list[asyncpg.Connection] = []

    async def make(*, locks: bool) -> Candidate:
        number = await sql.fetchval(
            "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock)"
            " VALUES ('t', 't', 1, '{}', '{}', 1, $1) RETURNING id",
            locks,
        )
        made.append(await asyncpg.connect(postgres.dsn))
        return Candidate(made[-1], schema, number, locks)

    async with flow:
        yield make
        for connection in made:
            await connection.close()


SILENCE = "UPDATE leader SET seen_at = clock_timestamp() - interval '6 seconds'"


async def test_the_lease_decides_without_locks(candidates, sql) -> None:
    """A leader that is seen stays; one that is not is replaced, and finds itself deposed."""
    first, second = await candidates(locks=False), await candidates(locks=False)
    assert await first.tick() == 1
    assert await second.tick() is None
    assert await first.tick() == 1
    await sql.execute(SILENCE)
    assert await second.tick() == 2
    assert await first.tick() is None
    assert await second.tick() == 2


async def test_a_lost_lock_is_a_death_at_once(candidates, sql) -> None:
    """The lock of a leader that is gone can be taken long before its lease would end."""
    first, second = await candidates(locks=True), await candidates(locks=True)
    assert await first.tick() == 1
    assert await second.tick() is None
    await first.connection.close()
    await eventually(second.tick)
    assert await sql.fetchval("SELECT term FROM leader") == 2


async def test_a_leader_whose_lock_was_free_is_given_up_without_a_grace(candidates, sql) -> None:
    """The successor that took the lock knows that the session is gone; of nobody else, and not of a
    predecessor that it replaced because of silence.
    """
    first, second, third = [await candidates(locks=True) for _ in range(3)]
    assert await first.tick() == 1
    assert first.predecessor is None
    await first.connection.close()
    await eventually(second.tick)
    assert second.predecessor == first.number

    async def ended(predecessor: int | None) -> list[int]:
        row = await sql.fetchrow(
            queries(second.schema)["do_chores"],
            *(second.number, 2, 77, False, predecessor, LEASE, timedelta()),
        )
        return row["ended"]

    assert await ended(None) == []
    assert await ended(second.predecessor) == [first.number]
    await sql.execute(SILENCE)
    assert await third.tick() == 3
    assert third.predecessor is None


async def test_a_frozen_leader_that_keeps_its_lock_is_replaced(candidates, sql) -> None:
    """The lock is not the authority: a leader that was not seen loses the office, lock or no lock,
    and does not take it back while its successor is seen.
    """
    first, second = await candidates(locks=True), await candidates(locks=True)
    assert await first.tick() == 1
    await sql.execute(SILENCE)
    assert await second.tick() == 2
    assert await first.tick() is None
    assert await second.tick() == 2


async def test_leaders_with_and_without_locks_side_by_side(candidates, sql) -> None:
    """A worker with locks does not depose a living leader without, nor the other way round."""
    pooled, direct = await candidates(locks=False), await candidates(locks=True)
    assert await pooled.tick() == 1
    assert await direct.tick() is None
    assert await pooled.tick() == 1
    await sql.execute("UPDATE leader SET worker_id = NULL, locked = false")
    assert await direct.tick() == 2
    assert await pooled.tick() is None
    assert await sql.fetchval("SELECT locked FROM leader")


async def test_absence_of_a_lock_counts_only_after_a_grace(candidates, sql, schema) -> None:
    """Right after an election, and after a start of the server, the living may not have taken their
    locks again; a worker that began after that start has no such excuse (trap 8).
    """
    leader, other = await candidates(locks=True), await candidates(locks=True)
    assert await leader.tick() == 1
    chores = queries(schema)["do_chores"]
    hour, none, lease = timedelta(hours=1), timedelta(), timedelta(minutes=5)
    await sql.execute(
        "UPDATE worker SET started_at = pg_postmaster_start_time() - interval '1 day'"
        " WHERE id = $1",
        other.number,
    )

    async def ended(trust: bool, grace: timedelta) -> list[int]:
        row = await sql.fetchrow(chores, leader.number, 1, 77, trust, None, lease, grace)
        return [number for number in row["ended"] if number == other.number]

    assert await ended(False, none) == []
    assert await ended(True, hour * 24 * 365) == []
    assert await ended(True, none) == [other.number]
    third = await candidates(locks=True)
    row = await sql.fetchrow(chores, leader.number, 1, 77, True, None, lease, hour * 24 * 365)
    assert third.number in row["ended"]


async def test_a_lost_host_is_noticed_by_the_server(postgres) -> None:
    """The connections of workers ask the server to look after its side of the wire (trap 8)."""
    connection = await connect(postgres.dsn, "test")
    try:
        rows = await connection.fetch(
            "SELECT name, source FROM pg_settings WHERE name ~ '^tcp_(keepalives|user_timeout)'"
        )
    finally:
        await connection.close()
    assert {tuple(row) for row in rows} == {
        (f"tcp_{name}", "client")
        for name in ("keepalives_idle", "keepalives_interval", "keepalives_count", "user_timeout")
    }
