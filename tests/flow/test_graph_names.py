# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How each public name of graphs and of extensions fails, one by one: a new one without an entry
here is red."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import pytest

import forktex_core.flow as module
from forktex_core.flow import Flow, FlowExtension, Graph, Library, TenantExtension
from forktex_core.flow.graph.condition import Condition as Expression
from tests.conftest import Database

NOBODY = UUID(int=0)
LIBRARY = Library()
HOMES = ("acting", "definitions", "extending", "extension", "graph", "offering", "tenants")
# They stand beside the other errors, and tell of extensions alone.
ERRORS = {"AccessDeniedError", "ChangeRefusedError"}


class Place(NamedTuple):
    """Where a Flow can be opened."""

    url: str
    schema: str

    @asynccontextmanager
    async def flow(self, *extensions: Any) -> Any:
        """A Flow with graphs, some extensions, and one run of a graph that waits."""
        flow = Flow(self.url, schema=self.schema, extensions=extensions)
        flow.register_graph(waiting())
        flow.serve_graphs(LIBRARY)
        async with flow:
            yield flow


class Case(NamedTuple):
    """``act`` raises ``error``, whose message matches ``says``."""

    error: type[BaseException]
    says: str
    act: Callable[[Place], Awaitable[Any]]


def at_once(act: Callable[[], Any]) -> Callable[[Place], Awaitable[Any]]:
    """For what fails without a database."""

    async def do(_: Place) -> None:
        act()

    return do


def on_flow(
    act: Callable[[Flow], Awaitable[Any]], *extensions: Any
) -> Callable[[Place], Awaitable[Any]]:
    """For what fails on an open Flow."""

    async def do(place: Place) -> None:
        async with place.flow(*extensions) as flow:
            await act(flow)

    return do


def frozen(value: object, name: str) -> Callable[[Place], Awaitable[Any]]:
    """For what is only told: nobody changes it."""
    return at_once(lambda: setattr(value, name, "changed"))


def waiting(**options: Any) -> Graph:
    """A graph that waits for 'advance'."""
    g = Graph("ask", initial="a", **options)
    g.add_state("a", manual=True)
    g.add_state("b", terminal=True)
    g.transition("a", "b", on="advance")
    return g


def unreachable() -> Graph:
    g = waiting()
    g.add_state("island", terminal=True)
    return g


def nameless() -> Graph:
    g = Graph("g", initial="a")

    @g.state("a", terminal=True)
    async def unknown(ctx: Any, payload: Any) -> Any:
        return payload

    return g


def told() -> list[module.Problem]:
    g = waiting()
    g.transition("a", "nowhere", on="go")
    return g.validate()


def walked(build: Callable[[], Graph], payload: Any) -> Callable[[Place], Awaitable[Any]]:
    """For what a run of a graph fails with."""

    async def do(place: Place) -> None:
        flow = Flow(place.url, schema=place.schema)
        flow.register_graph(build())
        async with flow:
            worker = asyncio.create_task(flow.run_worker())
            try:
                await flow.run("walked", payload, timeout=20)
            finally:
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)

    return do


def circle() -> Graph:
    g = Graph("walked", initial="a", max_transitions=5)
    g.add_state("a")
    g.add_state("b", terminal=True)
    g.transition("a", "b", when="payload.n > 1")
    g.transition("a", "a", when="payload.n == 1")
    return g


def late() -> Graph:
    g = Graph("walked", initial="a")
    g.add_state("a", manual=True, timeout=0.01)
    g.add_state("b", terminal=True)
    g.transition("a", "b", on="go")
    return g


class Careless(module.ActingFlow):
    """A method that nobody put behind a gate."""

    async def count(self) -> Any:
        return self._open


class Hides:
    """Shows a principal nothing."""

    def visible(self, principal: Any) -> module.Condition:
        return module.Condition("{row}.workflow = $1", ("none",))


class Forbids:
    """Lets nobody start anything."""

    def authorize(self, action: module.Action, principal: Any, run: Any) -> bool:
        return action != "start"


class Overfills:
    """Fills a column that is not there."""

    def on_start(self, draft: module.RunDraft) -> None:
        draft.columns["colour"] = "red"


class WrongSQL:
    """Sends a statement that Postgres does not take."""

    async def on_transition(
        self, change: module.Change, connection: module.TransitionConnection
    ) -> None:
        await connection.fetch("SELECT nothing_there")


class Vetoes:
    """Refuses all changes."""

    def on_transition(self, change: module.Change, connection: Any) -> None:
        raise LookupError("the budget is used up")


class Empty(FlowExtension):
    """Has no hook of its own."""


async def hidden(flow: Flow) -> None:
    run_id = await flow.as_("ada").start("ask", {})
    await flow.as_("ada").result(run_id, timeout=1)


async def conflict(flow: Flow) -> None:
    await flow.definitions.save("acme", waiting(), expected=7)


async def not_looked_at(flow: Flow) -> None:
    await flow.offer_signal(await flow.start("ask", {}), "advance", timeout=0)


async def without_a_library(place: Place) -> None:
    async with Flow(place.url, schema=place.schema) as flow:
        await flow.definitions.save("acme", waiting())


async def unknown_role(place: Place) -> None:
    async with place.flow(TenantExtension()):
        await module.install_row_security(place.url, schema=place.schema, role="nobody_at_all")


XSTATE = '{"id": "m", "initial": "a", "states": {"a": {"entry": "missing", "type": "final"}}}'
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VIEW = module.RunView(
    id=None, workflow="w", version=1, queue="q", status=None, metadata={}, columns={}
)
CHANGE = module.Change(
    run_id=NOBODY, workflow="w", version=1, queue="q", old=None, new="pending", at=NOW, columns={}
)

CASES = {
    "SYSTEM": Case(
        module.RunNotFoundError,
        "no run",
        on_flow(lambda f: f.as_(module.SYSTEM).result(NOBODY), Forbids()),
    ),
    "AccessDeniedError": Case(
        module.AccessDeniedError, "as_", on_flow(lambda f: f.start("ask", {}), Forbids())
    ),
    "ActingFlow": Case(
        module.AccessDeniedError,
        "did not pass the gate",
        on_flow(lambda f: Careless(f, "ada").count(), Forbids()),
    ),
    "Action": Case(
        module.AccessDeniedError, "start", on_flow(lambda f: f.as_("ada").start("ask"), Forbids())
    ),
    "Change": Case(FrozenInstanceError, "new", frozen(CHANGE, "new")),
    "ChangeRefusedError": Case(
        module.ChangeRefusedError,
        "does not become pending: .* the budget is used up",
        on_flow(lambda f: f.start("ask", {}), Vetoes()),
    ),
    "Column": Case(
        module.DefinitionError, "no column of flow's", at_once(lambda: module.Column("status"))
    ),
    "Condition": Case(module.RunNotFoundError, "no run", on_flow(hidden, Hides())),
    "ConditionError": Case(
        module.ConditionError,
        "can't be evaluated",
        at_once(lambda: Expression("payload.n > 1").holds({}, None, {})),
    ),
    "Definitions": Case(module.DefinitionError, "serves no stored graphs", without_a_library),
    "FlowExtension": Case(
        module.DefinitionError, "is no extension", at_once(lambda: Flow("", extensions=[Empty()]))
    ),
    "Graph": Case(module.DefinitionError, "graph", at_once(lambda: Graph("a b\n", initial="a"))),
    "GraphConflictError": Case(module.GraphConflictError, "at version 0, not 7", on_flow(conflict)),
    "GraphDiff": Case(
        module.GraphNotFoundError, "ask", on_flow(lambda f: f.definitions.diff("a", "ask", 1, 2))
    ),
    "GraphError": Case(
        module.GraphError, "'island' can't be reached", at_once(lambda: unreachable().as_workflow())
    ),
    "GraphLimitError": Case(
        module.GraphLimitError, "more than 5 transitions", walked(circle, {"n": 1})
    ),
    "GraphNotFoundError": Case(
        module.GraphNotFoundError, "ask", on_flow(lambda f: f.definitions.get("acme", "ask"))
    ),
    "GraphPosition": Case(
        module.RunNotFoundError, "no run", on_flow(lambda f: f.graph_position(NOBODY))
    ),
    "Imported": Case(
        module.GraphError, "missing", at_once(lambda: Graph.from_xstate(XSTATE).graph(LIBRARY))
    ),
    "Library": Case(
        module.DefinitionError, "has no name", at_once(lambda: nameless().to_json(LIBRARY))
    ),
    "Migration": Case(
        module.UnknownWorkflowError,
        "ask",
        on_flow(lambda f: f.definitions.migrate_runs("ask", 1, 9)),
    ),
    "NoTransitionError": Case(
        module.NoTransitionError, "no transition out of state 'a'", walked(circle, {"n": 0})
    ),
    "Problem": Case(FrozenInstanceError, "path", at_once(lambda: setattr(told()[0], "path", ""))),
    "Receipt": Case(TimeoutError, "stays in the inbox", on_flow(not_looked_at)),
    "RunDraft": Case(
        module.DefinitionError,
        "'colour', which no columns",
        on_flow(lambda f: f.start("ask", {}), Overfills()),
    ),
    "RunView": Case(FrozenInstanceError, "status", frozen(VIEW, "status")),
    "State": Case(
        module.DefinitionError,
        "both manual and terminal",
        at_once(lambda: waiting().add_state("c", manual=True, terminal=True)),
    ),
    "StateTimeoutError": Case(
        module.StateTimeoutError, "not left within 0.01 s", walked(late, {"n": 0})
    ),
    "StoredGraph": Case(
        ValueError, "limit", on_flow(lambda f: f.definitions.list("acme", limit=0))
    ),
    "TenantExtension": Case(
        module.AccessDeniedError,
        "belongs to no organisation",
        on_flow(lambda f: f.as_(SimpleNamespace(org_id=None)).start("ask", {}), TenantExtension()),
    ),
    "Transition": Case(
        module.DefinitionError,
        "an internal transition stays",
        at_once(lambda: waiting().transition("a", "b", on="go", internal=True)),
    ),
    "TransitionConnection": Case(
        module.ChangeRefusedError,
        "nothing_there",
        on_flow(lambda f: f.start("ask", {}), WrongSQL()),
    ),
    "install_row_security": Case(module.DefinitionError, "CREATE ROLE", unknown_role),
}


def home(name: str) -> str:
    """Return the part of flow that a public name is defined in."""
    return str(getattr(module, name).__module__).removeprefix("forktex_core.flow.").split(".")[0]


def test_each_public_name_has_an_entry() -> None:
    """None is missing and none is gone."""
    assert set(CASES) == {name for name in module.__all__ if home(name) in HOMES} | ERRORS


@pytest.mark.parametrize("name", CASES)
async def test_a_public_name_fails_as_it_says(postgres: Database, schema: str, name: str) -> None:
    """Just that error comes out, and it says about what."""
    case = CASES[name]
    with pytest.raises(case.error, match=case.says) as failure:
        await case.act(Place(postgres.url, schema))
    if isinstance(kind := getattr(module, name), type) and issubclass(kind, module.FlowError):
        assert isinstance(failure.value, kind)
