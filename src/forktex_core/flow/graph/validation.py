# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can be wrong with a graph, found all at once and told in a form that programs read.

Everything takes time that is linear in the graph's size, and no recursion follows its edges.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.graph.condition import Condition
from forktex_core.flow.graph.definition import ADVANCE, Graph, State, Transition

MAX_NESTING = 8
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a graph.

    Args:
        code: what kind of thing: ``unknown-state``, ``unreachable-state``, ``dead-end``,
            ``ambiguous-guards``, ``endless-cycle``, ``missing-name``, ``wrong-expression``, …
        path: where, as a JSON pointer into the graph's document, such as ``/states/paid/on_error``.
        message: the same in words.
    """

    code: str
    path: str
    message: str


class GraphError(DefinitionError):
    """A graph can't be registered.

    Attributes: ``graph``, its name, and ``problems``, all of them.
    """

    def __init__(self, graph: str, problems: list[Problem]) -> None:
        self.graph, self.problems = graph, problems
        shown = "; ".join(p.message for p in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(f"graph {graph!r}: {shown}{more}")


def pointer(*parts: str | int) -> str:
    """Return a JSON pointer."""
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in parts)


def validate(graph: Graph) -> list[Problem]:
    """Return all that is wrong with a graph and those in it."""
    return list(_validate(graph, "", 0, frozenset()))


def _validate(graph: Graph, base: str, depth: int, above: frozenset[int]) -> Iterator[Problem]:
    if depth > MAX_NESTING or id(graph) in above:
        yield Problem(
            "nested-too-deep", base, f"graphs are nested more than {MAX_NESTING} deep, or in a ring"
        )
        return
    for problem in _Check(graph).problems():
        yield Problem(problem.code, base + problem.path, problem.message)
    for state in graph.states.values():
        for name, region in state.regions.items():
            path = base + pointer("states", state.name, "regions", name)
            yield from _validate(region, path, depth + 1, above | {id(graph)})


class _Check:
    """One graph, without those in it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._states = graph.states
        self._places = {id(t): number for number, t in enumerate(graph.transitions)}
        self._leaving = graph.leaving()

    def problems(self) -> Iterator[Problem]:
        checks: list[Callable[[], Iterator[Problem]]] = [
            self._names, self._transitions, self._dead_ends, self._unreachable,
            self._ambiguous, self._endless, self._expressions, self._shadowed,
        ]  # fmt: skip
        for check in checks:
            yield from check()

    def _names(self) -> Iterator[Problem]:
        graph = self._graph
        if graph.initial not in self._states:
            message = f"the initial state {graph.initial!r} is not defined"
            yield Problem("unknown-state", "/initial", message)
        for path, message in graph.missing:
            yield Problem("missing-name", path, message)
        for s in self._states.values():
            here = pointer("states", s.name)
            if s.on_error is not None and s.on_error not in self._states:
                message = f"state {s.name!r}: on_error state {s.on_error!r} is not defined"
                yield Problem("unknown-state", here + "/on_error", message)
            if s.history_of is not None:
                of = self._states.get(s.history_of)
                if of is None or not of.composite:
                    message = (
                        f"history {s.name!r}: {s.history_of!r} is no sub-graph or fork of the graph"
                    )
                    yield Problem("unknown-state", here + "/history_of", message)

    def _transitions(self) -> Iterator[Problem]:
        for number, t in enumerate(self._graph.transitions):
            here = pointer("transitions", number)
            named = f"transition {t.source!r} -> {t.target!r}"
            for end, field in ((t.source, "from"), (t.target, "to")):
                if end not in self._states:
                    message = f"{named}: state {end!r} is not defined"
                    yield Problem("unknown-state", f"{here}/{field}", message)
            source = self._states.get(t.source)
            if source is not None:
                yield from _fit(source, t, here, named)

    def _dead_ends(self) -> Iterator[Problem]:
        for s in self._states.values():
            ends = _can_end(s)
            if s.terminal or s.history_of is not None or (s.composite and not ends):
                continue
            if not self._leaving[s.name]:
                message = f"state {s.name!r} is a dead end"
                yield Problem("dead-end", pointer("states", s.name), message)
            elif ends and not any(t.on is None and t.after is None for t in self._leaving[s.name]):
                message = f"state {s.name!r} is a dead end when what runs in it has ended"
                yield Problem("dead-end", pointer("states", s.name), message)

    def _unreachable(self) -> Iterator[Problem]:
        seen, pending = {self._graph.initial}, [self._graph.initial]
        while pending:
            for name in self._next(pending.pop()):
                if name not in seen:
                    seen.add(name)
                    pending.append(name)
        for name in self._states:
            if name not in seen:
                message = f"state {name!r} can't be reached"
                yield Problem("unreachable-state", pointer("states", name), message)

    def _next(self, name: str) -> Iterable[str]:
        state = self._states.get(name)
        if state is None:
            return
        yield from (t.target for t in self._leaving.get(name, ()))
        if state.on_error is not None:
            yield state.on_error
        if state.history_of is not None:
            yield state.history_of

    def _ambiguous(self) -> Iterator[Problem]:
        for name, transitions in self._leaving.items():
            asked: dict[Any, dict[Any, Transition]] = {}
            for t in transitions:
                before = asked.setdefault(self._trigger(t), {})
                other = before.get(None) or before.get(t.when)
                if other is not None:
                    why = "has no guard" if other.when is None else "has the same guard"
                    message = (
                        f"transition {name!r} -> {t.target!r} is never taken: the one to "
                        f"{other.target!r} is asked first and {why}"
                    )
                    path = pointer("transitions", self._places[id(t)])
                    yield Problem("ambiguous-guards", path, message)
                before.setdefault(t.when, t)

    def _trigger(self, t: Transition) -> Any:
        state = self._states.get(t.source)
        manual = state is not None and state.manual
        return (t.on or (ADVANCE if manual and t.after is None else None), t.after)

    def _endless(self) -> Iterator[Problem]:
        edges = {name: self._automatic(name) for name in self._states}
        for ring in _rings(edges):
            inside = set(ring)
            if all(set(edges[name]) <= inside and self._never_waits(name) for name in ring):
                names = " -> ".join(repr(n) for n in ring[:10])
                message = f"the automatic cycle {names} has no exit"
                yield Problem("endless-cycle", pointer("states", ring[0]), message)

    def _automatic(self, name: str) -> list[str]:
        """Return where a state leads by itself: up to the first transition without a guard."""
        found = []
        state = self._states[name]
        if state.manual or state.terminal:
            return []
        if state.history_of is not None:
            return [state.history_of] if state.history_of in self._states else []
        for t in self._leaving[name]:
            if t.on is None and t.after is None and t.target in self._states:
                found.append(t.target)
                if t.when is None:
                    break
        return found

    def _never_waits(self, name: str) -> bool:
        state = self._states[name]
        return not (state.manual or state.composite or self._timed(name)) and bool(
            self._automatic(name)
        )

    def _timed(self, name: str) -> bool:
        always = any(t.when is None and t.after is None for t in self._leaving[name])
        return not always and any(t.after is not None for t in self._leaving[name])

    def _expressions(self) -> Iterator[Problem]:
        for number, t in enumerate(self._graph.transitions):
            if isinstance(t.when, Condition) and t.when.problem is not None:
                message = f"transition {t.source!r} -> {t.target!r}: {t.when.problem}"
                yield Problem("wrong-expression", pointer("transitions", number, "when"), message)

    def _shadowed(self) -> Iterator[Problem]:
        """Signals that a state with regions and a state inside of it both wait for."""
        for state in self._states.values():
            mine = {t.on for t in self._leaving[state.name] if t.on is not None}
            for name, region in state.regions.items():
                for event in sorted(mine & _events(region)):
                    message = (
                        f"state {state.name!r} and a state inside of it both wait for {event!r}"
                    )
                    path = pointer("states", state.name, "regions", name)
                    yield Problem("ambiguous-signal", path, message)


def _can_end(state: State) -> bool:
    """Say whether what runs in a state may end by itself: enough of its graphs have an end."""
    ends = [any(s.terminal for s in region.states.values()) for region in state.regions.values()]
    return bool(ends) and sum(ends) >= (state.join or len(ends))


def _fit(source: State, t: Transition, here: str, named: str) -> Iterator[Problem]:
    if source.terminal:
        yield Problem("wrong-transition", here, f"{named} leaves a terminal state")
    elif source.history_of is not None:
        yield Problem("wrong-transition", here, f"{named} leaves a history")
    elif t.on is not None and not source.manual and not source.composite:
        message = f"{named} waits for {t.on!r}, but the state is not manual"
        yield Problem("wrong-transition", here + "/on", message)
    elif t.internal and t.on is None and not source.manual:
        message = f"{named} is internal, but no signal takes it"
        yield Problem("wrong-transition", here + "/internal", message)


def _events(graph: Graph) -> set[str]:
    found, pending, seen = set(), [graph], set()
    while pending:
        here = pending.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        for t in here.transitions:
            state = here.states.get(t.source)
            if t.on is not None or (state is not None and state.manual):
                found.add(t.on or ADVANCE)
        pending += [region for s in here.states.values() for region in s.regions.values()]
    return found


def _rings(edges: dict[str, list[str]]) -> Iterator[list[str]]:
    """Yield the strongly connected parts that hold a cycle (Tarjan, without recursion)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for root, first in edges.items():
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(first))]
        while work:
            here, targets = work[-1]
            target = next(targets, None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[here])
                if low[here] == number[here]:
                    part = _unstack(stack, on_stack, here)
                    if len(part) > 1 or here in edges[here]:
                        yield part
            elif target not in number:
                number[target] = low[target] = len(number)
                stack.append(target)
                on_stack.add(target)
                work.append((target, iter(edges[target])))
            elif target in on_stack:
                low[here] = min(low[here], number[target])


def _unstack(stack: list[str], on_stack: set[str], until: str) -> list[str]:
    part: list[str] = []
    while not part or part[-1] != until:
        part.append(stack.pop())
        on_stack.discard(part[-1])
    return part[::-1]
