# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graph: what a state machine is made of.

How it is checked is in validation.py, how it is walked in walk.py, its form as data in document.py.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from forktex_core.flow.context import FlowContext
from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.graph.condition import Condition
from forktex_core.flow.retry import NO_RETRY, Retry, seconds
from forktex_core.flow.workflow import Workflow, check_name

if TYPE_CHECKING:
    from forktex_core.flow.graph.imported import Imported
    from forktex_core.flow.graph.library import Library
    from forktex_core.flow.graph.validation import Problem
    from forktex_core.flow.offering import GraphPosition

type StateFunction = Callable[[FlowContext, Any], Awaitable[Any]]
type Guard = Callable[[Any], bool]
type Merge = Callable[[Any, Any], Any]
type Unhandled = Literal["keep", "reject", "defer"]
type Missing = tuple[str, str]

ADVANCE = "advance"
_UNHANDLED = ("keep", "reject", "defer")


class Actions:
    """Several actions as one: they run in order, each with the payload as it is; the first that
    raises ends the row.

    Args:
        functions: workflow code ``(ctx, payload)``.
    """

    __slots__ = ("functions",)

    def __init__(self, functions: Sequence[StateFunction]) -> None:
        self.functions = tuple(functions)

    async def __call__(self, ctx: FlowContext, payload: Any) -> None:
        """Run all of them."""
        for function in self.functions:
            await function(ctx, payload)


@dataclass(slots=True, kw_only=True)
class Transition:
    """A way from one state to another.

    Args:
        source: the state that it leaves.
        target: the state that it enters.
        on: the signal that takes it; ``"advance"`` for a manual state, None for an automatic one.
        when: a pure predicate over the payload, or a CEL expression.
        after: seconds in the state after which it is taken without a signal.
        priority: higher ones are asked first; equal ones in the order of their definition.
        action: workflow code ``(ctx, payload)`` that runs on the way; a list runs in order.
        merge: how a signal's payload is merged; the graph's way by default.
        internal: stay in the state: no exit, no entry; only ``action`` runs.
    """

    source: str
    target: str
    on: str | None = None
    when: Guard | Condition | None = None
    after: float | None = None
    priority: int = 0
    action: StateFunction | None = None
    merge: Merge | None = None
    internal: bool = False


@dataclass(slots=True, kw_only=True)
class State:
    """A state of a graph. See Graph.state() for the fields."""

    name: str
    function: StateFunction | None = None
    manual: bool = False
    terminal: bool = False
    retries: Retry = NO_RETRY
    timeout: float | None = None
    on_error: str | None = None
    entry: StateFunction | None = None
    exit: StateFunction | None = None
    unhandled: Unhandled | None = None
    regions: dict[str, "Graph"] = field(default_factory=dict)
    join: int | None = None
    merge: Merge | None = None
    history_of: str | None = None

    @property
    def composite(self) -> bool:
        """Whether graphs run inside of it."""
        return bool(self.regions)


class Graph:
    """A state machine.

    Args:
        name: the workflow's name.
        version: the workflow's version.
        initial: the state in which runs begin.
        max_transitions: a run that takes more fails with GraphLimitError; bounds cycles.
        continue_after: so many transitions later the run's journal is begun anew, so that a run of
            many thousands stays small.
        unhandled: what becomes of a signal that no transition of the current state takes. ``keep``:
            one with a name that the state has no transition for stays in the inbox, one whose
            guards say no is dropped; ``reject``: both are dropped; ``defer``: both are kept, and
            looked at again in the next state.
        payload: a pydantic model (or another annotation) that the payload is validated against.
        merge: how a signal's payload gets into the run's, ``(payload, sent) -> payload``; by
            default dict into dict, shallow, and any other value replaces what was there.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        initial: str,
        max_transitions: int = 10_000,
        continue_after: int = 1_000,
        unhandled: Unhandled = "keep",
        payload: Any = None,
        merge: Merge | None = None,
    ) -> None:
        self.name = check_name(name, "graph")
        self.version = version
        self.initial = initial
        self.max_transitions = max_transitions
        self.continue_after = continue_after
        self.unhandled = _policy(unhandled)
        self.payload = payload
        self.merge = merge
        self.states: dict[str, State] = {}
        self.transitions: list[Transition] = []
        self.missing: list[Missing] = []
        self.compiled: Any = None

    def state(
        self, name: str, *, manual: bool = False, terminal: bool = False, **options: Any
    ) -> Callable[[StateFunction], StateFunction]:
        """Add a state, above its ``async def (ctx, payload)``: workflow code that runs on entry, in
        a manual state before the wait; what it returns is the payload from there on.

        Args:
            name: its name.
            manual: the run waits here for a signal.
            terminal: the run ends here.
            **options: as in add_state().

        Raises:
            DefinitionError: the name is taken, or the options contradict each other.
        """
        state = self._new(name, manual=manual, terminal=terminal, **options)

        def add(function: StateFunction) -> StateFunction:
            state.function = function
            self.states[name] = state
            return function

        return add

    def add_state(self, name: str, function: StateFunction | None = None, **options: Any) -> None:
        """Add a state without a decorator; without a function the payload stays as it is.

        Args:
            name: its name.
            function: workflow code that runs on entry.
            **options: ``manual`` and ``terminal``; ``retries`` (a Retry) for a function that
                raises; ``timeout`` (seconds or a timedelta) for the function and, in a manual
                state, for the whole stay; ``on_error``, the state that is entered when either
                fails, with ``payload["error"]`` set; ``entry`` and ``exit``, workflow code (or a
                list of it, which runs in order) whose result does not count; ``unhandled``, other
                than the graph's.

        Raises:
            DefinitionError: the name is taken, or the options contradict each other.
        """
        self.states[name] = self._new(name, function=function, **options)

    def subgraph(self, name: str, graph: "Graph", **options: Any) -> None:
        """Add a state in which another graph runs, from its initial to a terminal state; what that
        one returns is the payload. Transitions with ``on`` or ``after`` leave it early.

        Args:
            name: the state's name.
            graph: what runs in it.
            **options: as in add_state().
        """
        self.states[name] = self._new(name, regions={"": graph}, **options)

    def fork(
        self,
        name: str,
        regions: Mapping[str, "Graph"],
        *,
        join: int | None = None,
        merge: Merge | None = None,
        **options: Any,
    ) -> None:
        """Add a state in which several graphs run side by side.

        Args:
            name: the state's name.
            regions: the graphs by name; each gets a copy of the payload.
            join: how many have to end before the state is left (the rest is cancelled); all by
                default.
            merge: ``(payload, {region: output}) -> payload``; by default each output is put into
                the payload under its region's name.
            **options: as in add_state().
        """
        if not regions or "" in regions:
            raise DefinitionError(f"fork {name!r} needs regions, each with a name")
        if join is not None and not 1 <= join <= len(regions):
            raise DefinitionError(
                f"fork {name!r}: join must lie between 1 and {len(regions)}, not {join}"
            )
        self.states[name] = self._new(
            name, regions=dict(regions), join=join, merge=merge, **options
        )

    def history(self, name: str, of: str) -> None:
        """Add a pseudo-state that leads back into a sub-graph or fork, to where it was left; to its
        beginning when it was not entered yet.
        """
        self.states[name] = self._new(name, history_of=of)

    def _new(self, name: str, **options: Any) -> State:
        check_name(name, "state")
        if name in self.states:
            raise DefinitionError(f"graph {self.name!r} has a state {name!r} already")
        try:
            state = State(name=name, **options)
        except TypeError as error:
            raise DefinitionError(f"state {name!r} of graph {self.name!r}: {error}") from error
        if state.manual + state.terminal + state.composite > 1:
            what = (
                "both manual and terminal"
                if state.manual and state.terminal
                else ("manual or terminal, and run graphs")
            )
            raise DefinitionError(f"state {name!r} of graph {self.name!r} can't be {what}")
        if state.unhandled is not None:
            _policy(state.unhandled)
        state.timeout = _positive(state.timeout, f"timeout of state {name!r}")
        state.entry, state.exit = _one(state.entry), _one(state.exit)
        return state

    def transition(
        self,
        source: str,
        target: str,
        *,
        on: str | None = None,
        when: Guard | str | Condition | None = None,
        after: float | timedelta | None = None,
        **options: Any,
    ) -> None:
        """Add a way from one state to another; states may be added later.

        Args:
            source: the state that it leaves.
            target: the state that it enters.
            on: the signal that takes it.
            when: a pure predicate over the payload, or a CEL expression over ``payload``,
                ``signal`` (what the signal brought) and ``metadata`` (the run's).
            after: seconds (or a timedelta) in the state after which it is taken by itself.
            **options: ``priority``, ``action``, ``merge`` and ``internal``; see Transition.

        Raises:
            DefinitionError: the options contradict each other.
        """
        what = f"transition {source!r} -> {target!r} of graph {self.name!r}"
        if on is not None:
            check_name(on, "signal")
            if on.startswith("$") or after is not None:
                raise DefinitionError(
                    f"{what}: on={on!r} can't begin with '$' (the engine's own), nor go with after="
                )
        if options.get("internal") and source != target:
            raise DefinitionError(f"{what}: an internal transition stays in its state")
        condition = Condition(when) if isinstance(when, str) else when
        wait = _positive(after, f"after of {what}")
        try:
            made = Transition(
                source=source, target=target, on=on, when=condition, after=wait, **options
            )
        except TypeError as error:
            raise DefinitionError(f"{what}: {error}") from error
        made.action = _one(made.action)
        self.transitions.append(made)

    def leaving(self) -> dict[str, list[Transition]]:
        """Return the transitions out of each state, in the order in which they are asked."""
        found: dict[str, list[Transition]] = {name: [] for name in self.states}
        for transition in self.transitions:
            found.setdefault(transition.source, []).append(transition)
        for transitions in found.values():
            transitions.sort(key=lambda t: -t.priority)
        return found

    def validate(self) -> "list[Problem]":
        """Return all that is wrong with the graph, empty when it can be registered."""
        from forktex_core.flow.graph.validation import validate

        return validate(self)

    def as_workflow(self) -> Workflow[Any, Any]:
        """Compile the graph; raise GraphError naming every problem."""
        from forktex_core.flow.graph.validation import GraphError
        from forktex_core.flow.graph.walk import GraphWorkflow

        if found := self.validate():
            raise GraphError(self.name, found)
        return GraphWorkflow(self)

    def to_json(self, library: "Library | None" = None) -> str:
        """Return the graph as JSON text; functions go by the names that ``library`` knows them by.

        Raises:
            DefinitionError: a function has no name there.
        """
        from forktex_core.flow.graph.document import to_json

        return to_json(self, library)

    @staticmethod
    def from_json(text: str | bytes, library: "Library | None" = None) -> "Graph":
        """Return the graph that a JSON text describes.

        Raises:
            GraphError: with every problem of the document: its form, unknown names, and what
                validate() finds.
        """
        from forktex_core.flow.graph.document import from_json

        return from_json(text, library)

    @staticmethod
    def from_xstate(text: str | bytes) -> "Imported":
        """Read the JSON of an XState v5 machine: ``Graph.from_xstate(text).graph(library)``; what
        has no counterpart is in ``unmapped``.

        Raises:
            DefinitionError: it is no machine.
        """
        from forktex_core.flow.graph.xstate import from_xstate

        return from_xstate(text)

    @staticmethod
    def from_scxml(text: str | bytes) -> "Imported":
        """Read an SCXML document (W3C, 2015): ``Graph.from_scxml(text).graph(library)``; what has
        no counterpart is in ``unmapped``.

        Raises:
            GraphError: it is no XML, has a DOCTYPE, is too large or nested too deeply.
            DefinitionError: it is no state machine.
        """
        from forktex_core.flow.graph.scxml import from_scxml

        return from_scxml(text)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of what from_json() reads."""
        from forktex_core.flow.graph.document import json_schema

        return json_schema()

    def to_mermaid(self, position: "GraphPosition | None" = None) -> str:
        """Return a Mermaid state diagram; with a run's position drawn in, if one is given."""
        from forktex_core.flow.graph.pictures import to_mermaid

        return to_mermaid(self, position)

    def to_dot(self, position: "GraphPosition | None" = None) -> str:
        """Return the graph in Graphviz's language; with a run's position and path drawn in."""
        from forktex_core.flow.graph.pictures import to_dot

        return to_dot(self, position)

    def to_svg(self, position: "GraphPosition | None" = None) -> str:
        """Return an SVG picture, made without a browser; with a run's position and path drawn in
        (see Flow.graph_position()).
        """
        from forktex_core.flow.graph.svg import to_svg

        return to_svg(self, position)


def _one(actions: Any) -> StateFunction | None:
    return Actions(actions) if isinstance(actions, list | tuple) else actions


def _policy(unhandled: Unhandled) -> Unhandled:
    if unhandled not in _UNHANDLED:
        raise DefinitionError(f"unhandled must be one of {_UNHANDLED}, not {unhandled!r}")
    return unhandled


def _positive(duration: float | timedelta | None, what: str) -> float | None:
    if duration is None:
        return None
    found = seconds(duration)
    if not 0 < found < 10**10:
        raise DefinitionError(f"{what} must be more than 0 seconds, not {duration!r}")
    return found
