# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Extensions: their columns on every run, their part in changes of status, their order, and what it
costs to have none.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from forktex_core.flow import (
    SYSTEM,
    AccessDeniedError,
    Change,
    ChangeRefusedError,
    Column,
    Condition,
    DefinitionError,
    Flow,
    FlowExtension,
    Graph,
    RunDraft,
    RunFailed,
    RunNotFoundError,
    RunView,
    TenantExtension,
)
from forktex_core.flow.store.passage import CHANGING
from forktex_core.flow.store.sql import queries
from tests.flow.tenancy import User
from tests.waiting import eventually

type Steps = list[tuple[str | None, str]]


def register(flow: Flow) -> None:
    @flow.workflow(name="wait")
    async def wait(ctx) -> Any:
        return await ctx.wait_signal("go")

    @flow.workflow(name="double")
    async def double(ctx, number: int) -> int:
        return 2 * number

    @flow.workflow(name="family")
    async def family(ctx, number: int) -> int:
        return await ctx.run_child("double", number)

    @flow.workflow(name="forward")
    async def forward(ctx, to: str) -> None:
        await ctx.send_signal(UUID(to), "go", "from a body")

    @flow.step(transactional=True)
    async def start_and_tell(ctx, to: str) -> str:
        ctx.send_signal(UUID(to), "go", "from a step")
        return str(ctx.start("double", 4))

    @flow.workflow(name="transactional")
    async def transactional(ctx, to: str) -> str:
        return await start_and_tell(ctx, to)


class Recorder:
    """Notes every change, within its transaction and after it."""

    def __init__(self, log: list[Any] | None = None, name: str = "") -> None:
        self.log: list[Any] = [] if log is None else log
        self.name = name
        self.heard: list[Change] = []

    async def on_transition(self, change: Change, connection: Any) -> None:
        self.log.append((self.name, change.run_id, change.old, change.new))
        found = await connection.fetch(
            "SELECT pg_current_xact_id_if_assigned()::text AS here WHERE 1 = $1", 1
        )
        assert found[0]["here"], "no transaction that writes"

    def after_commit(self, change: Change) -> None:
        self.heard.append(change)

    def of(self, run: UUID) -> Steps:
        return [(c.old, c.new) for c in self.heard if c.run_id == run]


class Labels:
    """A column of each type, filled by who starts."""

    def columns(self) -> list[Column]:
        return [
            Column("team", str, default="none"),
            Column("cost", int, index=False),
            Column("since", datetime, index=False),
            Column("owner", UUID, index=False),
            Column("share", float, index=False),
            Column("urgent", bool, index=False, default=False),
        ]

    async def on_start(self, draft: RunDraft) -> None:
        await asyncio.sleep(0)
        draft.columns.update(draft.principal or {})
        draft.metadata["by"] = "labels"


@pytest.fixture
async def watched(postgres, schema: str) -> AsyncIterator[tuple[Flow, Recorder]]:
    """A Flow on which every change of status is recorded."""
    recorder = Recorder()
    flow = Flow(postgres.url, schema=schema, extensions=[recorder, Labels()])
    register(flow)
    yield flow, recorder
    await flow.close()


# Columns


async def test_columns_are_filled_typed_and_searched(postgres, schema, sql, serving) -> None:
    """on_start fills columns and metadata; values come back as what they are; defaults hold for
    those that nobody filled; another type, or an unknown column, is refused and nothing starts.
    """
    seen: list[RunView] = []

    class Reader:
        def authorize(self, action: str, principal: Any, run: RunView | None) -> bool:
            seen.extend([run] if run is not None and run.id is not None else [])
            return True

    flow = Flow(postgres.url, schema=schema, extensions=[Labels(), Reader()])
    register(flow)
    moment = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    given = {"team": "ü'--", "cost": 1 << 60, "since": moment, "owner": uuid4(), "share": 0.1}
    async with serving(flow):
        run = await flow.as_(given).start("double", 2, metadata={"a": 1})
        many = await flow.as_({"urgent": True}).start_many("double", [1, 2])
        assert await flow.as_({}).result(run, timeout=10) == 4
        assert seen[0].columns == {**given, "urgent": False}
        assert seen[0].metadata == {"a": 1, "by": "labels"}
        await flow.as_({}).result(many[1], timeout=10)
        assert (seen[-1].columns["team"], seen[-1].columns["urgent"]) == ("none", True)
        before = await sql.fetchval("SELECT count(*) FROM run")
        for wrong in ({"team": 5}, {"cost": "5"}, {"cost": True}, {"nobody": 1}, {"team": "a\0b"}):
            with pytest.raises(DefinitionError, match="column"):
                await flow.as_(wrong).start("double", 1)
        assert await sql.fetchval("SELECT count(*) FROM run") == before


async def test_what_a_run_starts_takes_over_its_columns(watched, serving, sql) -> None:
    """Children, what a transactional step starts, and what a schedule starts."""
    flow, _ = watched
    async with serving(flow):
        acting = flow.as_({"team": "red", "cost": 7})
        parent = await acting.start("family", 3)
        assert await acting.result(parent, timeout=10) == 6
        inner = await acting.run("transactional", str(uuid4()), timeout=10)
        assert await acting.result(inner, timeout=10) == 8
        await acting.schedule("s", "double", every=3600, input=1)
        scheduled = await flow.as_({"team": "blue"}).trigger_schedule("s")
        # Changed by somebody else, the schedule stays whose it is.
        await flow.as_({"team": "blue"}).schedule("s", "double", every=1800, input=2)
        again = await flow.as_({"team": "blue"}).trigger_schedule("s")
    rows = await sql.fetch("SELECT id, team, cost FROM run")
    assert len(rows) == 6
    assert {(row["team"], row["cost"]) for row in rows} == {("red", 7)}
    assert {scheduled, again} <= {row["id"] for row in rows}


async def test_isolated_runs_do_not_reach_each_other(postgres, schema, serving) -> None:
    """A body, or a transactional step, that is handed the id of another tenant's run sends it no
    signal; one of its own tenant gets it.
    """
    flow = Flow(postgres.url, schema=schema, extensions=[TenantExtension()])
    register(flow)
    mine, theirs = flow.as_(User(uuid4())), flow.as_(User(uuid4()))
    async with serving(flow):
        victim, own, other = [await f.start("wait") for f in (theirs, mine, mine)]
        await mine.run("forward", str(victim), timeout=10)
        await mine.run("transactional", str(victim), timeout=10)
        await mine.run("forward", str(own), timeout=10)
        await mine.run("transactional", str(other), timeout=10)
        assert await mine.result(own, timeout=10) == "from a body"
        assert await mine.result(other, timeout=10) == "from a step"
        await theirs.send_signal(victim, "go", "from its own")
        assert await theirs.result(victim, timeout=10) == "from its own"


# Changes of status


async def test_every_change_is_told(watched, serving, sql) -> None:
    """A run's whole life, in order: once in the transaction and once after it."""
    flow, recorder = watched
    async with serving(flow):
        run = await flow.start("wait")
        await eventually(lambda: recorder.of(run)[-1:] == [("running", "waiting")])
        await flow.send_signal(run, "go", 1)
        assert await flow.result(run, timeout=10) == 1
        child = await flow.run("family", 2, timeout=10)
        assert child == 4
        gone = await flow.start("wait", delay=3600)
        await flow.pause(gone)
        await flow.resume(gone)
        await flow.cancel(gone)
        await eventually(lambda: recorder.of(gone)[-1:] == [("pending", "cancelled")])
    assert recorder.of(run) == [
        (None, "pending"), ("pending", "running"), ("running", "waiting"),
        ("waiting", "running"), ("running", "succeeded"),
    ]  # fmt: skip
    assert recorder.of(gone) == [
        (None, "pending"), ("pending", "paused"), ("paused", "pending"), ("pending", "cancelled"),
    ]  # fmt: skip
    within = [(run_id, old, new) for _, run_id, old, new in recorder.log]
    assert sorted(within, key=str) == sorted(
        ((c.run_id, c.old, c.new) for c in recorder.heard), key=str
    )
    children = await sql.fetchval("SELECT id FROM run WHERE parent_id IS NOT NULL")
    assert recorder.of(children)[0] == (None, "pending")


async def test_no_change_goes_unseen(watched, serving, sql, schema) -> None:
    """With a trigger that refuses whatever is changed unwatched, everything still works: no query
    is missing in the list of those that change a status.
    """
    flow, recorder = watched
    async with flow:
        await sql.execute(
            "CREATE FUNCTION strict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF current_setting('forktex_flow.watched', true) IS DISTINCT FROM 'on' THEN"
            " RAISE EXCEPTION 'a change that nobody watches'; END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER strict BEFORE INSERT OR UPDATE OF status ON run FOR EACH ROW"
            " EXECUTE FUNCTION strict()"
        )
    g = Graph("mail", initial="ask")
    g.add_state("ask", manual=True)
    g.add_state("sent", terminal=True)
    g.transition("ask", "sent")
    flow.register_graph(g)

    @flow.workflow(name="again")
    async def again(ctx, number: int) -> int:
        return number if number > 1 else ctx.continue_as_new(number + 1)

    @flow.workflow(name="broken")
    async def broken(ctx) -> None:
        raise ValueError

    async with serving(flow) as worker:
        run = await flow.start("mail", {})
        await eventually(lambda: recorder.of(run)[-1:] == [("running", "waiting")])
        assert (await flow.offer_signal(run, "advance", timeout=10)).taken
        await flow.result(run, timeout=10)
        assert await flow.run("again", 1, timeout=10) == 2
        assert await flow.run("family", 1, timeout=10) == 2
        await flow.run("transactional", str(uuid4()), timeout=10)
        await flow.start_many("double", [1, 2], key="k", delay=0.01)
        waiting = await flow.start("wait")
        await flow.schedule("s", "double", every=1, input=1)
        await eventually(
            lambda: any(c.old is None and c.workflow == "double" for c in recorder.heard)
        )
        late = await flow.start("wait", timeout=0.05)
        with pytest.raises(TimeoutError):
            await flow.result(late, timeout=10)
        failed = await flow.start("broken")
        with pytest.raises(RunFailed):
            await flow.result(failed, timeout=10)
        await flow.retry(failed)
        await eventually(lambda: recorder.of(failed).count(("running", "failed")) == 2)
        await eventually(lambda: recorder.of(waiting)[-1:] == [("running", "waiting")])
        await flow.delete_schedule("s")
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert queries(schema).keys() >= CHANGING
    assert ("failed", "pending") in recorder.of(failed)


async def test_a_hook_refuses_what_a_caller_asks(postgres, schema, sql, serving) -> None:
    """Its error undoes the start, also one within the caller's own session, which may go on and
    commit; and a signal, which changes no status, is nothing to refuse.
    """

    class Veto:
        def on_transition(self, change: Change, connection: Any) -> None:
            if change.old is None and change.workflow == "double":
                raise LookupError("budget is used up")

    flow = Flow(postgres.url, schema=schema, extensions=[Veto()])
    register(flow)
    async with flow:
        for call in (flow.start("double", 1), flow.start_many("double", [1, 2])):
            with pytest.raises(ChangeRefusedError, match="budget is used up") as seen:
                await call
            assert isinstance(seen.value.__cause__, LookupError)
        engine = create_async_engine(postgres.url)
        async with AsyncSession(engine) as session:
            kept = await flow.start("wait", session=session)
            with pytest.raises(ChangeRefusedError):
                await flow.start("double", 1, session=session)
            assert await flow.send_signal(kept, "go", session=session)
            await session.commit()
        await engine.dispose()
    assert [row["id"] for row in await sql.fetch("SELECT id FROM run")] == [kept]


async def test_a_hook_writes_with_the_change_or_not_at_all(postgres, schema, sql, serving) -> None:
    """What it writes is committed with the change; in a session, with the session."""

    class Outbox:
        async def on_transition(self, change: Change, connection: Any) -> None:
            await connection.fetch(
                f'INSERT INTO "{schema}".outbox VALUES ($1, $2)', str(change.run_id), change.new
            )

    flow = Flow(postgres.url, schema=schema, extensions=[Outbox()])
    register(flow)
    async with flow:
        await sql.execute("CREATE TABLE outbox (run text, status text)")
    async with serving(flow):
        run = await flow.start("double", 1)
        await flow.result(run, timeout=10)
        inner = await flow.run("transactional", str(run), timeout=10)
        await flow.result(inner, timeout=10)
        engine = create_async_engine(postgres.url)
        async with AsyncSession(engine) as session:
            lost = await flow.start("double", 1, session=session)
            await session.execute(text("SELECT 1"))
            await session.rollback()
        await engine.dispose()
    rows = await sql.fetch("SELECT status FROM outbox WHERE run = $1", str(run))
    assert [row["status"] for row in rows] == ["pending", "running", "succeeded"]
    rows = await sql.fetch("SELECT status FROM outbox WHERE run = $1", inner)
    assert [row["status"] for row in rows] == ["pending", "running", "succeeded"]
    assert not await sql.fetch("SELECT 1 FROM outbox WHERE run = $1", str(lost))


async def test_a_hook_stops_nobody_else(postgres, schema, sql, serving, caplog) -> None:
    """One that fails at every change of one tenant's, in SQL too, is logged, and neither that run
    nor the others of its batch stand still; what it wrote is gone, what others wrote is not.
    """

    class Bad:
        async def on_transition(self, change: Change, connection: Any) -> None:
            if change.old is None:
                return
            await connection.fetch(f'INSERT INTO "{schema}".notes VALUES ($1)', "bad")
            await connection.fetch("SELECT 1 / 0")

        async def after_commit(self, change: Change) -> None:
            raise RuntimeError("this one too")

    class Good(Recorder):
        async def on_transition(self, change: Change, connection: Any) -> None:
            await connection.fetch(f'INSERT INTO "{schema}".notes VALUES ($1)', "good")

    good = Good()
    flow = Flow(postgres.url, schema=schema, extensions=[Bad(), good])
    register(flow)
    async with flow:
        await sql.execute("CREATE TABLE notes (what text)")
    async with serving(flow):
        runs = await flow.start_many("double", range(5))
        assert [await flow.result(r, timeout=10) for r in runs] == [0, 2, 4, 6, 8]
    notes = [row["what"] for row in await sql.fetch("SELECT what FROM notes")]
    assert notes == ["good"] * 15
    assert len(good.heard) == 15
    assert any("on_transition failed" in r.message for r in caplog.records)
    assert any("after_commit failed" in r.message for r in caplog.records)


async def test_hooks_are_called_in_order(postgres, schema, serving) -> None:
    """As the Flow was given them, for each change."""
    log: list[Any] = []
    names = ["c", "a", "b"]
    flow = Flow(postgres.url, schema=schema, extensions=[Recorder(log, name) for name in names])
    register(flow)
    async with serving(flow):
        await flow.run("double", 1, timeout=10)
    assert [name for name, *_ in log] == names * 3


async def test_a_slow_hook_after_the_commit_holds_nobody_up(postgres, schema, serving) -> None:
    """Runs end, and other hooks hear of it, while one hook hangs; close() waits for it a while."""
    hold = asyncio.Event()

    class Slow:
        async def after_commit(self, change: Change) -> None:
            await hold.wait()

    quick = Recorder()
    flow = Flow(postgres.url, schema=schema, extensions=[Slow(), quick])
    register(flow)
    async with serving(flow):
        run = await flow.start("double", 1)
        assert await flow.result(run, timeout=10) == 2
        await eventually(lambda: quick.of(run)[-1:] == [("running", "succeeded")])
        hold.set()


# What there is without, and what is no extension


async def test_without_extensions_nothing_is_added(flow: Flow, sql, schema, serving) -> None:
    """No column, no trigger, no explicit transaction: the queries are sent as they are."""
    register(flow)
    async with serving(flow):
        await flow.run("family", 1, timeout=10)
        assert flow._trusted.store.passage is None
        assert flow._trusted.engine_passage is None
    triggers = await sql.fetch(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'run'::regclass AND NOT tgisinternal"
    )
    assert [row["tgname"] for row in triggers] == ["run_transition"]
    assert not await sql.fetch("SELECT 1 FROM extension_column")


def test_what_is_no_extension() -> None:
    """An object without a hook, one whose hook can't be called, two with one column, and columns
    that can't be are refused when the Flow is made.
    """

    class Misspelt:
        def on_transitions(self, change: Change) -> None: ...

    class Wrong:
        visible = "everything"

    class Empty(FlowExtension):
        pass

    for given, match in (
        ([Misspelt()], "none of columns"),
        ([Empty()], "none of columns"),
        ([Wrong()], "not callable"),
        ([Labels(), Labels()], "two extensions have a column 'cost'"),
    ):
        with pytest.raises(DefinitionError, match=match):
            Flow("postgresql://x/y", extensions=given)  # type: ignore[arg-type]
    for column in (
        lambda: Column("status"),
        lambda: Column("Org"),
        lambda: Column('a"; DROP TABLE run'),
        lambda: Column("x" * 41),
        lambda: Column("a", list),
        lambda: Column("a", int, default="5"),
    ):
        with pytest.raises(DefinitionError, match="column"):
            column()


async def test_conditions_of_several_extensions_hold_together(postgres, schema, serving) -> None:
    """Each adds its condition, with its own parameters; what one hides is hidden. A parameter is
    never text.
    """

    class Named:
        def __init__(self, column: str) -> None:
            self.name = column

        def columns(self) -> list[Column]:
            return [Column(self.name)]

        def on_start(self, draft: RunDraft) -> None:
            draft.columns[self.name] = draft.principal[self.name]

        def visible(self, principal: Any) -> Condition:
            sql = f"{{row}}.{self.name} = $1 AND $2 <> '' AND {{row}}.metadata->>'a:b' IS NULL"
            return Condition(sql, (principal[self.name], "x"))

    flow = Flow(postgres.url, schema=schema, extensions=[Named("first"), Named("second")])
    register(flow)
    evil = "x' OR true --"
    async with serving(flow):
        run = await flow.as_({"first": "a", "second": "b"}).start("double", 1)
        assert await flow.as_({"first": "a", "second": "b"}).result(run, timeout=10) == 2
        assert await flow.as_(SYSTEM).result(run, timeout=10) == 2
        engine = create_async_engine(postgres.url)
        for first, second in (("a", "c"), ("c", "b"), ("a", evil), (evil, evil)):
            other = flow.as_({"first": first, "second": second})
            with pytest.raises(RunNotFoundError):
                await other.result(run, timeout=5)
            async with AsyncSession(engine) as session:
                with pytest.raises(RunNotFoundError):
                    await other.send_signal(run, "go", session=session)
        await engine.dispose()


async def test_keys_without_namespaces_tell_of_nobody(postgres, schema) -> None:
    """With an extension that hides runs but keeps no names apart, a key that another holds is
    refused without saying whose it is.
    """

    class Hidden:
        def visible(self, principal: Any) -> Condition:
            return Condition("{row}.metadata->>'by' = $1", (principal,))

    flow = Flow(postgres.url, schema=schema, extensions=[Hidden()])
    register(flow)
    async with flow:
        await flow.as_("a").start("double", 1, idempotency_key="k", metadata={"by": "a"})
        with pytest.raises(AccessDeniedError, match="somebody else's"):
            await flow.as_("b").start("double", 1, idempotency_key="k", metadata={"by": "b"})
        await flow.as_("a").schedule("s", "double", every=60, input=1, metadata={"by": "a"})
        with pytest.raises(Exception, match="no schedule"):
            await flow.as_("b").schedule("s", "double", every=5, input=1, metadata={"by": "b"})
        assert (await flow.as_("a").get_schedule("s")).every == 60
