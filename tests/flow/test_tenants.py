# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A principal of one tenant against everything that another one has, through every public call.

Each public method has an attack here; one without turns the suite red. An attack on what is there
has to look, in its error and in the statements that it sends, just like one on what is not.
"""

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from examples import tenants as example
from forktex_core.flow import (
    SYSTEM,
    AccessDeniedError,
    ActingFlow,
    Condition,
    Flow,
    GraphNotFoundError,
    RunNotFoundError,
    TenantExtension,
    UnknownScheduleError,
)
from forktex_core.flow.definitions import Definitions
from forktex_core.flow.inspect.fleet import Fleet
from forktex_core.flow.inspect.runs import Runs
from tests.flow.tenancy import User, World, a_world, everything_of, library, mail, statements

WALLS = ["first", "second", "both"]


@pytest.fixture(params=["first", "second"])
async def world(request, postgres, schema) -> AsyncIterator[World]:
    """Two tenants; with the extension alone, and with row-level security alone."""
    async with a_world(postgres, schema, request.param) as made:
        yield made


async def outcome(call: Awaitable[Any]) -> str:
    """What a caller learns: what it got, or the error; without the ids that it knew itself."""
    try:
        found = repr(await call)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", found)


async def alike(there: Callable[[], Awaitable[Any]], nowhere: Callable[[], Awaitable[Any]]) -> str:
    """Do two things, one upon what is there; return what was learned, the same of both."""
    learned = []
    for attack in (there, nowhere):
        with statements() as sent:
            learned.append((await outcome(attack()), sent))
    assert learned[0] == learned[1]
    return learned[0][0]


# Upon runs: each attack is made upon every run of the victim, and upon one that never was.

UPON_RUNS: dict[str, Callable[[ActingFlow, UUID], Awaitable[Any]]] = {
    "result": lambda f, r: f.result(r, timeout=5),
    "send_signal": lambda f, r: f.send_signal(r, "go", 1),
    "cancel": lambda f, r: f.cancel(r, force=True),
    "pause": lambda f, r: f.pause(r),
    "resume": lambda f, r: f.resume(r),
    "retry": lambda f, r: f.retry(r),
    "rewind": lambda f, r: f.rewind(r, "double"),
    "fork": lambda f, r: f.fork(r, from_step="double", idempotency_key="order-1"),
    "published": lambda f, r: f.published(r, "secret"),
    "progress": lambda f, r: f.progress(r),
    "offer_signal": lambda f, r: f.offer_signal(r, "advance", timeout=1),
    "graph_position": lambda f, r: f.graph_position(r),
    "runs.get": lambda f, r: f.runs.get(r),
    "runs.timeline": lambda f, r: f.runs.timeline(r),
    "runs.explain": lambda f, r: f.runs.explain(r),
    "runs.stream": lambda f, r: anext(f.runs.stream(r)),
    "history": lambda f, r: f.history(r),
}


@pytest.mark.parametrize("walls", WALLS)
async def test_a_foreign_run_is_no_run(postgres, schema, sql, walls: str) -> None:
    """Whatever is asked of another's run, by its id: it is not found, just as one that never was;
    by the same statements; and nothing of the victim's changes.
    """
    async with a_world(postgres, schema, walls) as world:
        before = await everything_of(sql, world)
        for name, attack in UPON_RUNS.items():
            for kind, run in world.runs.items():
                learned = await alike(
                    lambda a=attack, r=run: a(world.mine, r),
                    lambda a=attack: a(world.mine, uuid4()),
                )
                assert learned.startswith("RunNotFoundError"), (name, kind, learned)
        assert await everything_of(sql, world) == before


async def test_a_foreign_run_is_no_run_in_a_session(world: World, sql) -> None:
    """Nor within a transaction of the attacker's own."""
    engine = create_async_engine(
        world.clients._dsn.replace("postgresql://", "postgresql+asyncpg://")
    )
    async with AsyncSession(engine) as session:
        for run in (*world.runs.values(), uuid4()):
            with pytest.raises(RunNotFoundError):
                await world.mine.send_signal(run, "go", session=session)
        own = await world.mine.start("wait", session=session)
        assert await world.mine.send_signal(own, "go", 7, session=session)
        mine = await world.mine.start_many("double", [1, 2], session=session)
        await session.commit()
    await engine.dispose()
    assert await world.mine.result(own, timeout=10) == 7
    assert await world.mine.result(mine[1], timeout=10) == 4
    assert (
        await sql.fetchval("SELECT count(*) FROM run WHERE org_id = $1", world.attacker.org_id) == 3
    )


# Everything else, one attack for each method.

ATTACKS: dict[str, Callable[[World], Awaitable[None]]] = {}


def attack(*names: str) -> Any:
    def add(fn: Any) -> Any:
        for name in names:
            ATTACKS[name] = fn
        return fn

    return add


@attack("start", "run")
async def keys_are_not_shared(w: World) -> None:
    """The victim's keys are free for the attacker, and lead to no run of the victim's."""
    assert await w.mine.start("double", 5, idempotency_key="order-1") != w.runs["done"]
    assert await w.mine.run("double", 5, idempotency_key="order-1", timeout=10) == 10
    other = await w.mine.start("wait", deduplication_key="one", key="customer")
    assert other not in w.runs.values()
    # Nor can the name that the key has in the database be given.
    stored = f"@{w.victim.org_id}/order-1"
    assert await w.mine.start("double", 6, idempotency_key=stored) != w.runs["done"]


@attack("start_many")
async def foreign_graphs_are_none(w: World) -> None:
    """A graph of the victim's can't be started, by any version, and looks like none at all."""
    real, none = f"@{w.victim.org_id}/mail", f"@{uuid4()}/mail"
    for attempt in (
        lambda name: w.mine.start(name, {}),
        lambda name: w.mine.start(name, {}, version=1),
        lambda name: w.mine.run(name, {}, timeout=5),
        lambda name: w.mine.start_many(name, [{}, {}]),
        lambda name: w.mine.schedule("s", name, every=60, input={}),
    ):
        learned = await alike(lambda a=attempt: a(real), lambda a=attempt: a(none))
        assert learned.startswith("GraphNotFoundError")
    ids = await w.mine.start_many("double", [1, 2])
    assert [await w.mine.result(i, timeout=10) for i in ids] == [2, 4]


@attack("unserved")
async def counts_count_ones_own(w: World) -> None:
    """What waits for a worker is counted of one's own runs only."""
    assert await w.mine.unserved() == []
    (theirs,) = await w.theirs.unserved()
    assert theirs.runs == 1
    (all_of_it,) = await w.system.unserved()
    assert all_of_it.runs == 2


@attack("queue", "pause_queue", "resume_queue", "queues")
async def queues_belong_to_the_service(w: World) -> None:
    """No tenant reads or changes limits, whether the queue is there or not."""
    for name in ("default", "nowhere"):
        for call in (
            lambda q: w.mine.queue(q, concurrency=1),
            w.mine.pause_queue,
            w.mine.resume_queue,
        ):
            await refused(call(name), w)
    if w.forgetful:  # limits are shown then, but nobody else's runs are counted
        assert [q.running for q in await w.mine.queues()] == [0]
    else:
        await refused(w.mine.queues(), w)
    assert [q.name for q in await w.system.queues()] == ["default"]


@attack("retain", "retention", "drop_retention", "on_prune")
async def retention_belongs_to_the_service(w: World) -> None:
    """No tenant makes, reads or drops a rule, nor takes what is pruned."""
    await w.system.retain("old", older_than=3600)
    for call in (
        w.mine.retain("old", older_than=0),
        w.mine.retention(),
        w.mine.drop_retention("old"),
        w.mine.drop_retention("nothing"),
    ):
        await refused(call, w)
    with pytest.raises(AccessDeniedError):
        w.mine.on_prune(lambda runs: None)
    assert [rule.name for rule in await w.system.retention()] == ["old"]


@attack("serve_graphs")
async def a_process_is_set_up_by_the_process(w: World) -> None:
    """Who acts for a principal can't change what the process serves."""
    with pytest.raises(AccessDeniedError):
        w.mine.serve_graphs(library)


@attack(
    "schedules", "get_schedule", "update_schedule", "pause_schedule", "resume_schedule",
    "delete_schedule", "trigger_schedule", "backfill_schedule",
)  # fmt: skip
async def foreign_schedules_are_none(w: World) -> None:
    """Not listed, not found by name, nor by the name that it has in the database."""
    assert await w.mine.schedules() == []
    moments = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC))
    stored = f"@{w.victim.org_id}/nightly"
    for call in (
        w.mine.get_schedule,
        lambda n: w.mine.update_schedule(n, input=1),
        w.mine.pause_schedule,
        w.mine.resume_schedule,
        w.mine.delete_schedule,
        w.mine.trigger_schedule,
        lambda n: w.mine.backfill_schedule(n, *moments),
    ):
        for name in ("nightly", stored):
            with statements() as sent, pytest.raises(UnknownScheduleError) as seen:
                await call(name)
            with statements() as missed, pytest.raises(UnknownScheduleError) as unseen:
                await call("nowhere")
            assert sent == missed
            assert str(seen.value).replace(name, "nowhere") == str(unseen.value)


@attack("schedule")
async def schedules_of_one_name(w: World) -> None:
    """Both tenants have a schedule of one name; each sees its own, under the name it gave."""
    await w.mine.schedule("nightly", "double", every=3600, input=1, key="k")
    assert [(s.name, s.input, s.key) for s in await w.mine.schedules()] == [("nightly", 1, "k")]
    assert [(s.name, s.input, s.key) for s in await w.theirs.schedules()] == [("nightly", 4, "k")]
    changed = await w.mine.update_schedule("nightly", input=2)
    assert (changed.name, changed.key, changed.input) == ("nightly", "k", 2)
    run = await w.mine.trigger_schedule("nightly")
    assert await w.mine.result(run, timeout=10) == 4
    with pytest.raises(RunNotFoundError):
        await w.theirs.result(run, timeout=1)
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 2, tzinfo=UTC)
    mine = await w.mine.backfill_schedule("nightly", start, end)
    assert len(mine) == 2
    await w.mine.delete_schedule("nightly")
    assert [s.name for s in await w.theirs.schedules()] == ["nightly"]


@attack(
    "definitions.save", "definitions.get", "definitions.list", "definitions.diff",
    "definitions.activate", "definitions.retire", "definitions.migrate_runs",
)  # fmt: skip
async def foreign_namespaces_are_empty(w: World) -> None:
    """Reading, changing, listing: a namespace of the victim's is like one that nobody has."""
    theirs, none = str(w.victim.org_id), str(uuid4())
    mine = w.mine.definitions
    for call in (
        lambda ns: mine.get(ns, "mail"),
        lambda ns: mine.get(ns, "mail", 1),
        mine.list,
        lambda ns: mine.diff(ns, "mail", 1, 1),
        lambda ns: mine.activate(ns, "mail", 1),
        lambda ns: mine.retire(ns, "mail"),
        lambda ns: mine.save(ns, mail()),
        lambda ns: mine.migrate_runs(f"@{ns}/mail", 1, 1),
    ):
        learned = await alike(lambda c=call: c(theirs), lambda c=call: c(none))
        assert learned == "[]" or learned.startswith(("GraphNotFoundError", "AccessDeniedError"))
    with pytest.raises(AccessDeniedError):
        await mine.save(theirs, mail())
    with pytest.raises(GraphNotFoundError):
        await mine.get(theirs, "mail")
    own = str(w.attacker.org_id)
    assert await mine.save(own, mail()) == 1
    assert [g.name for g in await mine.list(own)] == ["mail"]
    assert (await w.theirs.definitions.migrate_runs(f"@{theirs}/mail", 1, 1)).moved == [
        w.runs["graph"]
    ]


@attack("runs.page", "runs.first", "runs.count", "runs.summary")
async def lists_show_ones_own(w: World) -> None:
    """Whatever is asked for, in whatever order, behind whatever cursor: another's runs are not
    listed and not counted; one's own are, under the names that were given.
    """
    mine, theirs = w.mine.runs, w.theirs.runs
    wanted = [
        mine,
        *(mine.order_by(order) for order in ("created", "finished", "-finished")),
        mine.where(status=["succeeded", "failed", "waiting"]),
        mine.where(columns={"org_id": w.victim.org_id}),
        mine.where(parent=w.runs["parent"]),
        mine.where(idempotency_key="order-1"),
        mine.where(idempotency_key=f"@{w.victim.org_id}/order-1"),
        mine.where(key=["customer", f"@{w.victim.org_id}/customer"]),
        mine.where(schedule="nightly"),
        mine.restricted(Condition("true")),
    ]
    for runs in wanted:
        assert (await runs.page()).runs == []
        assert await runs.first() is None
        assert await runs.count() == await runs.count(at_most=3) == 0
        assert (await runs.summary()).cells == []
        assert [run async for run in runs] == []
    own = await w.mine.start("double", 1, idempotency_key="order-1", key="customer")
    (shown,) = (await mine.where(idempotency_key="order-1", key="customer").page()).runs
    assert (shown.id, shown.idempotency_key, shown.key) == (own, "order-1", "customer")
    first = await theirs.page(1)
    assert len(first.runs) == 1
    assert [r.id for r in (await mine.page(after=first.next)).runs] in ([], [own])
    assert await mine.count() == 1
    assert await theirs.count() == len([run async for run in theirs])
    assert await w.system.runs.count() == await theirs.count() + 2


@attack("fleet.workers", "fleet.leader", "fleet.definitions", "fleet.queues", "examine")
async def the_fleet_belongs_to_the_service(w: World) -> None:
    """Who works, and how much there is to do, is not a tenant's to know."""
    fleet = w.mine.fleet
    for call in (
        fleet.workers(), fleet.leader(), fleet.definitions(), fleet.queues(), w.mine.examine(),
    ):  # fmt: skip
        if w.forgetful:
            await outcome(call)
        else:
            await refused(call, w)
    assert await w.system.fleet.workers()
    assert await w.theirs.history(w.runs["done"])


@attack("definitions", "runs", "fleet", "runs.where", "runs.order_by", "runs.restricted")
async def parts_act_as_their_flow_does(w: World) -> None:
    """Of the Flow itself they are shut, however the question is put together."""
    runs = w.clients.runs.where(status="failed").order_by("created").restricted(Condition("true"))
    for call in (w.clients.definitions.list("x"), runs.page(), w.clients.fleet.workers()):
        with pytest.raises(AccessDeniedError, match="as_"):
            await call
    with pytest.raises(AccessDeniedError, match="as_"):
        await anext(w.clients.runs.stream(w.runs["done"]))


async def refused(call: Awaitable[Any], w: World) -> None:
    """A call is refused: by the policy, or where that has fallen by Postgres."""
    import asyncpg

    with pytest.raises((AccessDeniedError, asyncpg.InsufficientPrivilegeError)):
        await call


@pytest.mark.parametrize("name", sorted({fn.__name__ for fn in ATTACKS.values()}))
async def test_an_attack_fails(world: World, sql, name: str) -> None:
    """Each attack on another tenant learns and changes nothing."""
    tried = {fn.__name__: fn for fn in ATTACKS.values()}
    await tried[name](world)


def public(kind: type, prefix: str = "") -> set[str]:
    """The public methods and properties of a class."""
    return {prefix + name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_every_public_call_has_an_attack() -> None:
    """A new public method of what acts for a principal, or of a part of it, without an attack here
    turns this red.
    """
    parts = {"definitions": Definitions, "runs": Runs, "fleet": Fleet}
    found = public(ActingFlow).union(*(public(k, f"{n}.") for n, k in parts.items()))
    assert found == {*UPON_RUNS, *ATTACKS}


def test_every_public_call_has_a_gate() -> None:
    """Nothing public of them lacks the decorator; parts are reached by properties."""
    questions = {"where", "order_by", "restricted"}  # they ask for nothing yet
    for kind in (ActingFlow, Definitions, Runs, Fleet):
        for name, member in inspect.getmembers(kind):
            if name.startswith("_") or isinstance(member, property) or name in questions:
                continue
            assert hasattr(member, "action"), f"{kind.__name__}.{name}"


def test_a_flow_has_no_other_calls() -> None:
    """What a Flow has beyond that sets a process up, and reads and writes no run."""
    own = public(Flow) - public(ActingFlow)
    assert own == {
        "as_", "step", "workflow", "workflows", "register_graph", "open", "close", "run_worker",
        "stop_workers",
    }  # fmt: skip


async def test_without_a_principal_nothing_opens(world: World) -> None:
    """Every call on the Flow itself is refused before it reaches the database, and so is one of who
    belongs to nobody.
    """
    run = uuid4()
    with statements() as sent:
        for name, call in UPON_RUNS.items():
            for nobody in (world.clients, world.clients.as_(None), world.clients.as_(object())):
                with pytest.raises(AccessDeniedError):
                    await call(nobody, run)  # type: ignore[arg-type]
                assert not sent, name
        for nobody in (world.clients, world.clients.as_(None), world.clients.as_(User(None))):
            for call in (
                lambda f: f.start("double", 1),
                lambda f: f.start_many("double", [1]),
                lambda f: f.run("double", 1),
                lambda f: f.unserved(),
                lambda f: f.schedules(),
                lambda f: f.schedule("x", "double", every=5, input=1),
                lambda f: f.queues(),
                lambda f: f.retention(),
                lambda f: f.definitions.list("x"),
            ):
                with pytest.raises(AccessDeniedError):
                    await call(nobody)
        assert not sent


async def test_a_method_that_forgets_its_gate_is_shut(world: World) -> None:
    """A public method written without the decorator can't reach the database, for nobody."""

    class Careless(ActingFlow):
        async def count(self) -> int:
            return len(await self._open.store.claims_of(list(world.runs.values())))

    class CarelessFlow(Flow):
        count = Careless.count

    flow = CarelessFlow(world.clients._dsn, extensions=[TenantExtension()])
    flow._opened = world.clients._opened
    with pytest.raises(AccessDeniedError, match="as_"):
        await flow.count()
    flow._opened = None
    for principal in (world.victim, world.attacker, SYSTEM):
        with pytest.raises(AccessDeniedError, match="did not pass the gate"):
            await Careless(world.clients, principal).count()


@pytest.mark.parametrize("world", ["first"], indirect=True)
async def test_roles_within_a_tenant(world: World) -> None:
    """Who may read but not act is told so; who may not read finds nothing, there or not."""
    reader = world.clients.as_(User(world.victim.org_id, frozenset({"read"})))
    starter = world.clients.as_(User(world.victim.org_id, frozenset({"start"})))
    assert await reader.result(world.runs["done"], timeout=5) == 42
    with pytest.raises(AccessDeniedError, match="'cancel'"):
        await reader.cancel(world.runs["waiting"])
    with pytest.raises(AccessDeniedError, match="'start'"):
        await reader.start("double", 1)
    with pytest.raises(RunNotFoundError):
        await reader.cancel(uuid4())
    started = await starter.start("double", 1)
    for run in (started, world.runs["done"], uuid4()):
        with pytest.raises(RunNotFoundError):
            await starter.result(run, timeout=1)
        with pytest.raises(RunNotFoundError):
            await starter.send_signal(run, "go")
    with pytest.raises(RunNotFoundError):
        await starter.run("double", 1, timeout=1)


async def test_what_a_run_starts_belongs_to_its_tenant(world: World, sql) -> None:
    """Children, forks and scheduled runs have the organisation of what they come from."""
    forked = await world.theirs.fork(world.runs["done"], from_step="double")
    assert await world.theirs.result(forked, timeout=10) == 42
    again = await world.theirs.fork(forked, from_step="double", idempotency_key="order-1")
    assert again == world.runs["done"]
    started = "parent_id IS NOT NULL OR schedule IS NOT NULL OR started_by IS NOT NULL"
    owners = await sql.fetch(f"SELECT id, org_id FROM run WHERE {started}")
    assert len(owners) == 3
    assert {row["org_id"] for row in owners} == {world.victim.org_id}


async def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """examples/tenants.py, on a server of its own, prints what it promises."""
    await example.main()
    assert capsys.readouterr().out.splitlines() == [
        "Ada's runs: 1",
        "Eve's runs: 0",
        *["Eve: RunNotFoundError"] * 3,
        "Bob: this principal may not do 'cancel': ask whoever grants it",
        "Ada's run ended: by Ada",
        "Eve's report: report of month 5",
        "All runs, for the service: 3",
        "Without a tenant: 0",
    ]
