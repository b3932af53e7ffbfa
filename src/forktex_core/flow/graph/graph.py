# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graph: states and transitions by name, checked as a whole and compiled into a workflow that walks
them.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from forktex_core.flow.codec import ANY
from forktex_core.flow.context import FlowContext
from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.workflow import Workflow, check_name

type StateFunction = Callable[[FlowContext, Any], Awaitable[Any]]
type Guard = Callable[[Any], bool]

ADVANCE = "advance"


@dataclass(slots=True)
class Transition:
    """A way from one state to another.

    Args:
        source: the state that it leaves.
        target: the state that it enters.
        on: the signal that takes it, out of a manual state; None for an automatic one.
        when: a pure predicate over the payload; the first transition whose guard holds is taken.
    """

    source: str
    target: str
    on: str | None = None
    when: Guard | None = None


@dataclass(slots=True)
class State:
    """A state of a graph.

    Args:
        name: its name.
        function: workflow code that runs on entry; what it returns is the payload from there on.
        manual: the run waits here for a signal.
        terminal: the run ends here.
    """

    name: str
    function: StateFunction
    manual: bool = False
    terminal: bool = False
    transitions: list[Transition] = field(default_factory=list)


class Graph:
    """A state machine.

    Args:
        name: the workflow's name.
        version: the workflow's version.
        initial: the state in which runs begin.
        max_transitions: a run that takes more fails; bounds cycles.
    """

    def __init__(
        self, name: str, *, version: int = 1, initial: str, max_transitions: int = 10_000
    ) -> None:
        self.name = check_name(name, "graph")
        self.version = version
        self.initial = initial
        self.max_transitions = max_transitions
        self.states: dict[str, State] = {}
        self._transitions: list[Transition] = []

    def state(
        self, name: str, *, manual: bool = False, terminal: bool = False
    ) -> Callable[[StateFunction], StateFunction]:
        """Add a state: ``@g.state("paid", manual=False, terminal=False)`` above an ``async def
        (ctx, payload)``.

        Raises:
            DefinitionError: the name is taken, or the state is both manual and terminal.
        """
        check_name(name, "state")
        if name in self.states:
            raise DefinitionError(f"graph {self.name!r} has a state {name!r} already")
        if manual and terminal:
            raise DefinitionError(
                f"state {name!r} of graph {self.name!r} can't be both manual and terminal"
            )

        def add(function: StateFunction) -> StateFunction:
            self.states[name] = State(name, function, manual, terminal)
            return function

        return add

    def transition(
        self, source: str, target: str, *, on: str | None = None, when: Guard | None = None
    ) -> None:
        """Add a way from one state to another; states may be added later. See Transition for the
        arguments.
        """
        self._transitions.append(Transition(source, target, on, when))

    def problems(self) -> list[str]:
        """Return all that is wrong with the graph, empty when it can be registered."""
        found = (
            [f"the initial state {self.initial!r} is not defined"]
            if self.initial not in self.states
            else []
        )
        for t in self._transitions:
            found += [
                f"transition {t.source!r} -> {t.target!r}: state {end!r} is not defined"
                for end in dict.fromkeys((t.source, t.target))
                if end not in self.states
            ]
            source = self.states.get(t.source)
            if source is not None and source.terminal:
                found.append(f"transition {t.source!r} -> {t.target!r} leaves a terminal state")
            if source is not None and t.on is not None and not source.manual:
                found.append(
                    f"transition {t.source!r} -> {t.target!r} waits for {t.on!r}, but the "
                    "state is not manual"
                )
        leaving = {t.source for t in self._transitions}
        found += [
            f"state {s.name!r} is a dead end"
            for s in self.states.values()
            if not s.terminal and s.name not in leaving
        ]
        found += [
            f"state {name!r} can't be reached"
            for name in self.states
            if name not in self._reachable()
        ]
        return found

    def _reachable(self) -> set[str]:
        seen, queue = {self.initial}, deque([self.initial])
        while queue:
            here = queue.popleft()
            for t in self._transitions:
                if t.source == here and t.target not in seen:
                    seen.add(t.target)
                    queue.append(t.target)
        return seen

    def as_workflow(self) -> Workflow[Any, Any]:
        """Compile the graph; raise DefinitionError naming every problem."""
        if found := self.problems():
            raise DefinitionError(f"graph {self.name!r}: " + "; ".join(found))
        for state in self.states.values():
            state.transitions = [t for t in self._transitions if t.source == state.name]
        return _GraphWorkflow(self)


class _GraphWorkflow(Workflow[Any, Any]):
    kind = "graph"

    def __init__(self, graph: Graph) -> None:
        async def walk(ctx: FlowContext, payload: Any = None) -> Any:
            return await _walk(graph, ctx, payload)

        super().__init__(walk, graph.name, graph.version)
        self.graph = graph
        self.input_shape = self.output_shape = ANY


async def _walk(graph: Graph, ctx: FlowContext, payload: Any) -> Any:
    state = graph.states[graph.initial]
    for _ in range(graph.max_transitions + 1):
        payload = await state.function(ctx, payload)
        if state.terminal:
            return payload
        if state.manual:
            target, payload = await _await_exit(state, ctx, payload)
        else:
            target = _automatic_exit(state, payload)
        state = graph.states[target]
    raise GraphLimitError(graph.name, graph.max_transitions)


async def _await_exit(state: State, ctx: FlowContext, payload: Any) -> tuple[str, Any]:
    while True:
        names = list(dict.fromkeys(t.on or ADVANCE for t in state.transitions))
        name, sent = await ctx.wait_any_signal(names)
        merged = merge(payload, sent)
        for t in state.transitions:
            if (t.on or ADVANCE) == name and (t.when is None or t.when(merged)):
                return t.target, merged
        ctx.logger.warning("signal %r changes nothing in state %r", name, state.name)


def _automatic_exit(state: State, payload: Any) -> str:
    for t in state.transitions:
        if t.when is None or t.when(payload):
            return t.target
    raise NoTransitionError(state.name)


def merge(payload: Any, sent: Any) -> Any:
    """Merge a signal's payload into the run's: dict into dict, shallow; None changes nothing."""
    if sent is None:
        return payload
    if isinstance(payload, dict) and isinstance(sent, dict):
        return {**payload, **sent}
    return sent


class GraphLimitError(DefinitionError):
    """A run took more transitions than its graph allows."""

    def __init__(self, graph: str, limit: int) -> None:
        self.graph, self.limit = graph, limit
        super().__init__(
            f"graph {graph!r} took more than {limit} transitions: a cycle without an exit?"
        )


class NoTransitionError(DefinitionError):
    """No guard of a state's transitions holds."""

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(
            f"no transition out of state {state!r} holds for the payload: add one without a guard"
        )
