# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Transactional steps: their work, their entry, what they send and start are one transaction."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from forktex_core.flow import (
    DefinitionError,
    Flow,
    FlowContext,
    Retry,
    RunCancelled,
    RunFailed,
    StepContext,
)
from forktex_core.flow.engine.transaction import Transaction
from tests.waiting import eventually


@pytest.fixture
async def book(flow: Flow, sql, schema: str) -> str:
    """A table of the user's, beside flow's own."""
    async with flow:
        await sql.execute("CREATE TABLE booking (name text PRIMARY KEY)")
    return f'INSERT INTO "{schema}".booking VALUES (:name)'


async def names(sql) -> list[str]:
    return [r["name"] for r in await sql.fetch("SELECT name FROM booking ORDER BY name")]


async def test_all_or_nothing(flow: Flow, serving, sql, book: str) -> None:
    """Rows, journal entry, signals and starts are there when the step succeeds; when it fails after
    all of them, none is.
    """

    @flow.workflow()
    async def receiver(ctx: FlowContext, name: str) -> str:
        return name

    @flow.step(transactional=True)
    async def reserve(ctx: StepContext, name: str, target: str) -> str:
        await ctx.session.execute(text(book), {"name": name})
        ctx.send_signal(target, "note", name)
        started = ctx.start(receiver, name)
        if name == "bad":
            raise ValueError("after all")
        return str(started)

    @flow.workflow()
    async def body(ctx: FlowContext, target: str) -> list:
        got = [await reserve(ctx, "good", target)]
        try:
            await reserve(ctx, "bad", target)
        except ValueError as error:
            got.append(str(error))
        return got

    @flow.workflow()
    async def target(ctx: FlowContext) -> list:
        first = await ctx.wait_signal("note")
        return [first, await ctx.select(n=ctx.wait_signal("note"), t=ctx.wait_signal("end"))]

    async with serving(flow):
        other = await flow.start("target")
        started, message = await flow.run("body", str(other), timeout=10)
        assert message == "after all"
        assert await flow.result(started, timeout=10) == "good"
        await flow.send_signal(other, "end")
        assert await flow.result(other, timeout=10) == ["good", ["t", None]]
    assert await names(sql) == ["good"]
    assert await sql.fetchval("SELECT count(*) FROM run") == 3


async def test_a_unique_violation_fails_the_step_and_not_the_worker(
    flow: Flow, serving, sql, book: str
) -> None:
    """The user's own error is the step's, retried by its policy, recorded with its type."""
    attempts: list[int] = []

    @flow.step(transactional=True, retries=Retry(max_attempts=2, initial=0.01))
    async def twice(ctx: StepContext) -> None:
        attempts.append(ctx.attempt)
        for _ in range(2):
            await ctx.session.execute(text(book), {"name": "same"})

    @flow.workflow()
    async def body(ctx: FlowContext) -> str:
        try:
            await twice(ctx)
        except IntegrityError as error:
            return str(error)
        return ""

    async with serving(flow):
        assert "duplicate key" in await flow.run("body", timeout=10)
        assert await flow.run("body", timeout=10)
    assert attempts == [1, 2, 1, 2]
    assert await names(sql) == []


async def test_cost_of_a_transactional_step(flow: Flow, serving, sql, book: str) -> None:
    """One transaction: the user's statement, one of ours, one commit; no flush besides."""

    @flow.step(transactional=True)
    async def reserve(ctx: StepContext, name: str) -> None:
        await ctx.session.execute(text(book), {"name": name})

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        for number in range(10):
            await reserve(ctx, str(number))

    async with serving(flow):
        engine = flow._opened.transactions._open().sync_engine
        await flow.run("body", timeout=10)  # SQLAlchemy greets the server on its first connection
        await sql.execute("DELETE FROM booking")
        seen: Counter[str] = Counter()
        for name in ("begin", "commit", "rollback", "before_cursor_execute"):
            event.listen(engine, name, lambda *_, name=name: seen.update([name]))
        flushes = flow._workers[0]._journal.flushes
        await flow.run("body", timeout=10)
        assert flow._workers[0]._journal.flushes == flushes
    assert seen == {"begin": 10, "before_cursor_execute": 20, "commit": 10}
    assert len(await names(sql)) == 10


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
async def test_a_commit_whose_answer_was_lost(
    flow: Flow, serving, sql, book: str, monkeypatch, when: str
) -> None:
    """The connection dies at the commit. What is committed counts and is not done again; what isn't
    is done again: the row is there once either way.
    """
    bodies: list[int] = []
    real = Transaction.commit

    async def cut(self: Transaction) -> None:
        monkeypatch.setattr(Transaction, "commit", real)
        pid = (await self._connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar()
        if when == "after the commit":
            await real(self)
        await sql.execute("SELECT pg_terminate_backend($1)", pid)
        await eventually(
            lambda: sql.fetchval("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1", pid)
        )
        await self._connection.exec_driver_sql("SELECT 1")

    monkeypatch.setattr(Transaction, "commit", cut)

    @flow.step(transactional=True)
    async def reserve(ctx: StepContext) -> int:
        bodies.append(ctx.attempt)
        await ctx.session.execute(text(book), {"name": "once"})
        return len(bodies)

    @flow.workflow()
    async def body(ctx: FlowContext) -> int:
        return await reserve(ctx)

    async with serving(flow):
        result = await flow.run("body", timeout=10)
    assert result == len(bodies) == (1 if when == "after the commit" else 2)
    assert bodies == [1] * len(bodies), "losing the connection counts as no attempt"
    assert await names(sql) == ["once"]
    assert await sql.fetchval("SELECT count(*) FROM journal") == 1


async def test_a_probe_waits_for_whoever_is_still_writing(
    flow: Flow, schema, postgres, sql
) -> None:
    """While a commit may still arrive, its entry is neither taken as there nor as not there."""
    import asyncpg

    from tests.flow.test_engine import one_entry, worker_row

    async with flow:
        worker, run = await worker_row(sql), "00000000-0000-7000-8000-000000000001"
        from forktex_core.flow.store.sql import queries

        writing = await asyncpg.connect(postgres.dsn)
        try:
            for end in ("commit", "rollback"):
                await sql.execute("DELETE FROM journal")
                transaction = writing.transaction()
                await transaction.start()
                await writing.fetchval(queries(schema)["append_entries"], *one_entry(worker, run))
                looking = asyncio.create_task(flow._opened.store.settle_entry(run, "1"))
                await eventually(
                    lambda: sql.fetchval(
                        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    )
                )
                assert not looking.done()
                await getattr(transaction, end)()
                found = await looking
                assert (found is not None) == (end == "commit")
            assert await sql.fetchval("SELECT count(*) FROM journal") == 0
        finally:
            await writing.close()


async def test_a_lost_fence_rolls_back(flow: Flow, serving, sql, book: str, schema: str) -> None:
    """A step whose worker was given up meanwhile leaves nothing; the run's next owner does it."""
    bodies: list[int] = []

    @flow.step(transactional=True)
    async def reserve(ctx: StepContext, target: str) -> int:
        bodies.append(1)
        await ctx.session.execute(text(book), {"name": f"by {len(bodies)}"})
        ctx.send_signal(target, "note", len(bodies))
        if len(bodies) == 1:
            life = flow._workers[0].worker_id
            await sql.fetchval(f'SELECT "{schema}".end_worker($1, $2)', life, "test")
        return len(bodies)

    @flow.workflow()
    async def body(ctx: FlowContext, target: str) -> int:
        return await reserve(ctx, target)

    @flow.workflow()
    async def target(ctx: FlowContext) -> int:
        return await ctx.wait_signal("note")

    async with serving(flow):
        other = await flow.start("target")
        assert await flow.run("body", str(other), timeout=10) == 2
        assert await flow.result(other, timeout=10) == 2
    assert await names(sql) == ["by 2"]


async def test_steps_that_signal_each_others_runs_never_deadlock(
    flow: Flow, serving, sql, book: str
) -> None:
    """Two steps at a time send to both runs, each to the other's first: nobody waits in a circle
    (trap 10).
    """
    arrived: list[int] = []
    both = asyncio.Event()

    @flow.step(transactional=True)
    async def cross(ctx: StepContext, first: str, second: str) -> None:
        arrived.append(ctx.attempt)
        for target in (first, second):
            ctx.send_signal(target, "ping", ctx.name)
            if len(arrived) == 2:
                both.set()
            await both.wait()  # each has sent its first before either sends its second

    @flow.workflow()
    async def body(ctx: FlowContext) -> int:
        pair = await ctx.wait_signal("pair")
        await cross(ctx, *pair)
        return len([await ctx.wait_signal("ping") for _ in range(2)])

    async with serving(flow):
        for _ in range(5):
            arrived.clear()
            both.clear()
            one, two = await flow.start("body"), await flow.start("body")
            await flow.send_signal(one, "pair", [str(two), str(one)])
            await flow.send_signal(two, "pair", [str(one), str(two)])
            assert [await flow.result(r, timeout=10) for r in (one, two)] == [2, 2]
            assert arrived == [1, 1], "a step ran twice: its transaction was rolled back"


async def test_a_commit_in_flight_holds_back_what_was_appended_later(
    flow: Flow, serving, sql, book: str, postgres, schema: str
) -> None:
    """A transactional step that waits in its commit, and steps of another branch that are durable
    long before it: the body hears of it first, live as on replay.
    """
    import asyncpg

    seen: list[str] = []
    go = asyncio.Event()

    @flow.step(transactional=True)
    async def slow(ctx: StepContext, target: str) -> str:
        ctx.send_signal(target, "note")
        return "slow"

    @flow.step
    async def quick(ctx: StepContext) -> str:
        await go.wait()
        return "quick"

    @flow.workflow()
    async def body(ctx: FlowContext, target: str) -> list[str]:
        async def branch(work) -> None:
            seen.append(await work)

        await asyncio.gather(branch(quick(ctx)), branch(slow(ctx, target)))
        await ctx.wait_signal("go")
        return list(seen)

    @flow.workflow()
    async def target(ctx: FlowContext) -> None:
        await ctx.wait_signal("note")

    locking = await asyncpg.connect(postgres.dsn)
    try:
        async with serving(flow, warm=0):
            other = await flow.start("target")
            await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
            transaction = locking.transaction()
            await transaction.start()
            await locking.execute(f'SELECT FROM "{schema}".run FOR UPDATE')
            run_id = await flow.start("body", str(other))
            await eventually(
                lambda: sql.fetchval(
                    "SELECT count(*) > 0 FROM pg_stat_activity"
                    " WHERE application_name = 'forktex-flow steps' AND wait_event_type = 'Lock'"
                )
            )
            go.set()
            await eventually(lambda: sql.fetchval("SELECT count(*) > 0 FROM journal"))
            execution = flow._workers[0]._active[run_id]
            await eventually(lambda: execution._acknowledged == 1)
            assert seen == []
            await transaction.commit()
            await eventually(lambda: len(seen) == 2)
            live = list(seen)
            await eventually(
                lambda: sql.fetchval("SELECT status = 'waiting' FROM run WHERE id = $1", run_id)
            )
            seen.clear()
            await flow.send_signal(run_id, "go")
            assert await flow.result(run_id, timeout=10) == live == ["slow", "quick"]
    finally:
        await locking.close()


async def test_cancellation_and_timeouts_roll_back(flow: Flow, serving, sql, book: str) -> None:
    """A transactional step that is interrupted leaves nothing, and its connection is free again."""
    inside = asyncio.Event()

    @flow.step(transactional=True)
    async def stuck(ctx: StepContext, name: str) -> None:
        await ctx.session.execute(text(book), {"name": name})
        inside.set()
        await asyncio.Event().wait()

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        await stuck(ctx, "cancelled")

    @flow.workflow()
    async def late(ctx: FlowContext) -> str:
        try:
            await stuck.options(timeout=0.05)(ctx, "late")
        except TimeoutError as error:
            return str(error)
        return ""

    async with serving(flow):
        run_id = await flow.start("body")
        await inside.wait()
        await flow.cancel(run_id)
        with pytest.raises(RunCancelled):
            await flow.result(run_id, timeout=10)
        assert "did not finish within 0.05 s" in await flow.run("late", timeout=10)
        pool = flow._opened.transactions._open().pool
        await eventually(lambda: pool.checkedout() == 0)
    assert await names(sql) == []


async def test_misuse_is_named(flow: Flow, serving, sql, book: str) -> None:
    """What can't be transactional says so, and what can't be stored fails the step with nothing
    left.
    """
    with pytest.raises(DefinitionError, match="must be an 'async def'"):

        @flow.step(transactional=True)
        def plain(ctx: StepContext) -> None: ...

    @flow.step
    async def ordinary(ctx: StepContext) -> None:
        ctx.send_signal("00000000-0000-7000-8000-000000000000", "x")

    @flow.step(transactional=True)
    async def rolled_back(ctx: StepContext) -> None:
        await ctx.session.execute(text(book), {"name": "a"})
        await ctx.session.rollback()

    @flow.step(transactional=True)
    async def opaque(ctx: StepContext):
        await ctx.session.execute(text(book), {"name": "b"})
        return object()

    @flow.step(transactional=True)
    async def committed_early(ctx: StepContext) -> None:
        await ctx.session.execute(text(book), {"name": "c"})
        await ctx.session.commit()
        raise ValueError("too late")

    steps = {s.fn.__name__: s for s in (ordinary, rolled_back, opaque, committed_early)}

    @flow.workflow()
    async def body(ctx: FlowContext, name: str) -> None:
        await steps[name](ctx)

    async with serving(flow):
        for name, message in {
            "ordinary": "has no transaction",
            "rolled_back": "rolled its session back",
            "opaque": "can't be carried as JSON",
            "committed_early": "too late",
        }.items():
            with pytest.raises(RunFailed, match=message):
                await flow.run("body", name, timeout=10)
    assert await names(sql) == []


def test_flow_imports_no_sqlalchemy() -> None:
    """A service without transactional steps pays nothing for them."""
    code = "import sys, forktex_core.flow; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_through_a_pooler(postgres, schema: str, serving, sql, pooler: str) -> None:
    """Behind a pooler in transaction mode the same holds: no statement of one transaction is looked
    for by another one's server connection.
    """
    flow = Flow(pooler, schema=schema, pooled=True, direct_url=postgres.dsn)

    @flow.step(transactional=True)
    async def reserve(ctx: StepContext, name: str) -> str:
        insert = f'INSERT INTO "{schema}".booking VALUES (:name)'
        await ctx.session.execute(text(insert), {"name": name})
        return name

    @flow.workflow()
    async def body(ctx: FlowContext, names: list[str]) -> list[str]:
        return await ctx.map(reserve, names)

    async with serving(flow):
        await sql.execute("CREATE TABLE booking (name text PRIMARY KEY)")
        given = [[f"{run}-{n}" for n in range(10)] for run in range(5)]
        ids = await flow.start_many("body", given)
        assert await asyncio.gather(*(flow.result(i, timeout=20) for i in ids)) == given
    assert len(await names(sql)) == 50


@pytest.fixture
async def pooler(postgres) -> AsyncIterator[str]:
    """The URL of a PgBouncer in transaction mode with two server connections."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    address = urlsplit(postgres.dsn)
    folder = Path(tempfile.mkdtemp(prefix="pooler-"))  # pytest's own are closed to other users
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "users.txt").write_text(f'"{address.username}" "{address.password or ""}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={address.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = plain\n"
        f"auth_file = {folder}/users.txt\npool_mode = transaction\ndefault_pool_size = 2\n"
        "unix_socket_dir =\n"
    )
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    process = await asyncio.create_subprocess_exec(
        program, *user, str(folder / "pgbouncer.ini"), stderr=asyncio.subprocess.DEVNULL
    )
    await eventually(lambda: _answers(port))
    yield postgres.dsn.replace(f":{address.port}/", f":{port}/")
    process.terminate()
    await process.wait()
    shutil.rmtree(folder)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
