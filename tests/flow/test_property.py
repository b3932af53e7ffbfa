# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Random programs, random orders of completion, and a crash at every write.

Three properties: the outcome is the one that the program promises, with crashes as without; what a
body has seen, it sees again after a crash, in the same order (a life's trace and the next one's
agree as far as both go); and each signal is consumed once, none is lost, whichever waits were
released.
"""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktex_core.flow import FlowContext, StepFailed, Workflow
from forktex_core.flow.identity import new_run_id
from forktex_core.flow.store.migrate import migrate
from forktex_core.flow.store.rows import NewRun
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Durability, Registry
from tests.flow.drive import Driver

type Node = tuple[Any, ...]

leaves = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.just(("fails",)),
    st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.001, 0.001, 0.5])),
    st.just(("signal",)),
    st.just(("draw",)),
    st.just(("patched",)),
    st.just(("publish",)),
)


def _inner(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some = st.lists(nodes, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["seq", "gather", "group", "all"]), some),
        st.tuples(st.sampled_from(["select", "first"]), some),
        st.tuples(st.just("timeout"), st.sampled_from([0.001, 0.1]), nodes),
        st.tuples(st.just("given up"), nodes),
        st.tuples(st.just("child"), some),
        st.tuples(st.just("map"), st.integers(0, 4), st.sampled_from([None, 1, 2])),
    )


programs = st.lists(st.recursive(leaves, _inner, max_leaves=8), min_size=1, max_size=4)


def expected(node: Node) -> Any:
    """What a node returns, whatever the order; races return only that they were run."""
    kind, *rest = node
    if kind in ("seq", "gather", "group", "all", "child"):
        return [expected(n) for n in rest[0]]
    if kind == "map":
        return [n * n for n in range(rest[0])]
    return rest[0] if kind == "step" else kind


def waits(nodes: list[Node]) -> int:
    """How many waits for signals a program has in its own run."""
    total = 0
    for kind, *rest in nodes:
        total += kind == "signal"
        if kind != "child":
            inner = [n for r in rest for n in (r if isinstance(r, list) else [r])]
            total += waits([n for n in inner if isinstance(n, tuple)])
    return total


@dataclass
class World:
    """What the bodies of a drive share with the test."""

    driver: Driver
    traces: dict[UUID, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))


class Body:
    """One execution of a program."""

    def __init__(self, world: World, ctx: FlowContext) -> None:
        self.world, self.ctx = world, ctx
        self.trace: list[Any] = []
        self.consumed: list[int] = []
        world.traces[ctx.run_id].append(self.trace)

    async def step(self, value: Any) -> Any:
        await self.world.driver.gate()
        if value == "fails":
            raise KeyError("as it should")
        return value

    async def square(self, n: int) -> int:
        await self.world.driver.gate()
        return n * n

    async def signal(self) -> str:
        self.consumed.append(await self.ctx.wait_signal("s"))
        return "signal"

    async def run(self, node: Node) -> Any:
        kind, *rest = node
        result = await getattr(self, "do_" + kind.replace(" ", "_"), self._leaf)(*rest or [kind])
        self.trace.append((kind, result if kind in ("select", "first") else str(result)))
        if kind in ("select", "first", "timeout", "given up"):
            return kind
        return result

    async def _leaf(self, what: Any) -> Any:
        ctx = self.ctx
        if what == "signal":
            return await self.signal()
        if what == "draw":
            self.trace.append((ctx.random().random(), str(ctx.uuid4()), ctx.now()))
        elif what == "patched":
            self.trace.append(ctx.patched("change"))
        elif what == "publish":
            await ctx.publish("key", len(self.trace))
        elif what == "fails":
            try:
                await ctx.step(self.step, "fails")
            except StepFailed as error:
                assert isinstance(error, KeyError)  # noqa: PT017 - in a body, not in the test
        else:
            return await ctx.step(self.step, what)
        return what

    async def do_sleep(self, delay: float) -> str:
        await self.ctx.sleep(delay)
        return "sleep"

    async def do_seq(self, nodes: list[Node]) -> list[Any]:
        return [await self.run(n) for n in nodes]

    async def do_gather(self, nodes: list[Node]) -> list[Any]:
        return list(await asyncio.gather(*(self.run(n) for n in nodes)))

    async def do_all(self, nodes: list[Node]) -> list[Any]:
        return await self.ctx.gather(*(self.run(n) for n in nodes))

    async def do_group(self, nodes: list[Node]) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(n)) for n in nodes]
        return [t.result() for t in tasks]

    async def do_select(self, nodes: list[Node]) -> Any:
        name, _ = await self.ctx.select(**{f"n{i}": self.run(n) for i, n in enumerate(nodes)})
        return name

    async def do_first(self, nodes: list[Node]) -> Any:
        tasks = [asyncio.create_task(self.run(n)) for n in nodes]
        try:
            done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:  # a branch that nobody waits for any more would take signals from those who do
            for task in tasks:
                task.cancel()
        if left:
            await asyncio.wait(left)
        return [tasks.index(t) for t in tasks if t in done]

    async def do_timeout(self, delay: float, node: Node) -> Any:
        try:
            async with asyncio.timeout(delay):
                return await self.run(node)
        except TimeoutError:
            return "late"

    async def do_given_up(self, node: Node) -> Any:
        task = asyncio.create_task(self.run(node))
        try:
            await self.ctx.sleep(0.001)
        finally:
            task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    async def do_child(self, nodes: list[Node]) -> Any:
        result = await self.ctx.run_child("program", {"nodes": nodes, "signals": waits(nodes)})
        return result["result"]

    async def do_map(self, count: int, limit: int | None) -> Any:
        return await self.ctx.map(self.square, range(count), limit=limit)


def registry(world: World, durability: Durability) -> Registry:
    async def program(ctx: FlowContext, given: dict) -> dict:
        if ctx.run_id not in world.traces:  # each run's signals are sent once, whatever its lives
            world.driver.signals += [(ctx.run_id, "s", str(n)) for n in range(given["signals"])]
        body = Body(world, ctx)
        result = await body.do_seq([_tuples(n) for n in given["nodes"]])
        while len(body.consumed) < given["signals"]:
            await body.signal()  # the others, which some released wait might have eaten
        return {"result": result, "consumed": sorted(body.consumed)}

    found = Registry()
    found.add(Workflow(program, "program", 1, durability=durability))
    return found


def _tuples(node: Any) -> Any:
    """JSON knows no tuples: nodes are lists whose first element is a name."""
    if isinstance(node, list) and node and isinstance(node[0], str):
        return tuple(_tuples(n) for n in node)
    return [_tuples(n) for n in node] if isinstance(node, list) else node


async def drive(
    dsn: str, schema: str, nodes: list[Node], seed: int, crashes: str, durability: Durability
) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            f'TRUNCATE "{schema}".run, "{schema}".journal, "{schema}".signal, "{schema}".published'
        )
        rng = random.Random(seed)
        sequence = iter(lambda: rng.choice(["before", "after", "after", None]), "never")
        crash = {
            "none": lambda: None,
            "every": lambda: "after",
            "some": lambda: next(sequence),
        }[crashes]
        world = World(Driver(Store(connection, schema), Registry(), rng, crash))
        world.driver.registry = registry(world, durability)
        root = new_run_id()
        count = waits(nodes)
        await start(world.driver.store, root, nodes, count)
        outcome = await world.driver.run(root)
        assert outcome.error is None, outcome.error
        assert json.loads(outcome.output or "") == {
            "result": [expected(n) for n in nodes],
            "consumed": list(range(count)),
        }
        if durability == "commit":  # a pipelined body may see what a crash takes back
            check_traces(world)
        if crashes == "every":
            rows = await connection.fetchval(f'SELECT count(*) FROM "{schema}".journal')
            assert world.driver.lives > 1 or not rows
    finally:
        await connection.close()


def check_traces(world: World) -> None:
    for run_id, lives in world.traces.items():
        longest = max(lives, key=len)
        for trace in lives:
            assert trace == longest[: len(trace)], f"{run_id}: a life saw something else"


async def start(store: Store, run_id: UUID, nodes: list[Node], signals: int) -> None:
    given = json.dumps({"nodes": nodes, "signals": signals})
    await store.insert_run(
        NewRun(
            id=run_id, workflow="program", version=1, lane="program@1", queue="default", priority=0,
            due=None, delay=None, metadata="{}", key=None, timeout=None, input=given,
            idempotency_key=None, deduplication_key=None,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def migrated(postgres) -> Iterator[tuple[str, str]]:
    """A migrated schema for all examples of this file."""

    async def make(drop: bool) -> None:
        connection = await asyncpg.connect(postgres.dsn)
        if drop:
            await connection.execute("DROP SCHEMA property CASCADE")
        else:
            await migrate(connection, "property")
        await connection.close()

    asyncio.run(make(drop=False))
    yield postgres.dsn, "property"
    asyncio.run(make(drop=True))


examples = {
    "nodes": programs,
    "seed": st.integers(0, 1 << 32),
    "crashes": st.sampled_from(["none", "every", "some"]),
    "durability": st.sampled_from(["commit", "commit", "pipelined"]),
}
quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=30, deadline=None, suppress_health_check=quiet)
@given(**examples)
def test_programs_survive_crashes(migrated, **example: Any) -> None:
    """See the top of the file."""
    asyncio.run(drive(*migrated, **example))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=3000, deadline=None, suppress_health_check=quiet)
@given(**examples)
def test_many_programs_survive_crashes(migrated, **example: Any) -> None:
    """The same, for as long as a campaign lasts."""
    asyncio.run(drive(*migrated, **example))
