# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs as text for Mermaid and for Graphviz, with the path of a run drawn in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forktex_core.flow.graph.condition import Condition
from forktex_core.flow.graph.definition import ADVANCE, Graph, State, Transition
from forktex_core.flow.workflow import function_name

if TYPE_CHECKING:
    from forktex_core.flow.offering import GraphPosition

_MAX_GUARD = 40


@dataclass(slots=True)
class Trail:
    """Which states a run is in, and which states and ways it has taken.

    Args:
        current: paths of states (``outer/inner``).
        visited: paths of states.
        ways: pairs of paths.
    """

    current: set[str] = field(default_factory=set)
    visited: set[str] = field(default_factory=set)
    ways: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, position: "GraphPosition | None") -> "Trail":
        """Return the trail of a run's position."""
        if position is None:
            return cls()
        trail = cls(visited=set(position.path))
        last: dict[str, str] = {}
        for path in position.path:
            level = path.rpartition("/")[0]
            if level in last:
                trail.ways.add((last[level], path))
            last[level] = path
            _leave_inner(last, path)
        trail._stand("", {"state": position.state, "regions": position.regions})
        return trail

    def _stand(self, prefix: str, where: dict[str, Any]) -> None:
        here = prefix + where["state"]
        self.current.add(here)
        self.visited.add(here)
        for name, inner in (where.get("regions") or {}).items():
            self._stand(f"{here}/{name}/" if name else f"{here}/", inner)


def _leave_inner(last: dict[str, str], path: str) -> None:
    """A state that is entered begins the paths inside of it anew."""
    for level in [level for level in last if level == path or level.startswith(path + "/")]:
        del last[level]


def label(graph: Graph, t: Transition) -> str:
    """Return what stands beside a transition's arrow: ``signal [guard] after``."""
    parts = []
    state = graph.states.get(t.source)
    if t.on is not None or (state is not None and state.manual and t.after is None):
        parts.append(t.on or ADVANCE)
    if t.after is not None:
        parts.append(f"after {_duration(t.after)}")
    if t.when is not None:
        text = t.when.source if isinstance(t.when, Condition) else function_name(t.when)
        text = " ".join(text.split())
        parts.append(f"[{text if len(text) <= _MAX_GUARD else text[: _MAX_GUARD - 1] + '…'}]")
    return " ".join(parts)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def inner_prefix(prefix: str, state: str, region: str) -> str:
    """Return what stands before the paths of states in a region."""
    return f"{prefix}{state}/" + (f"{region}/" if region else "")


class _Names:
    """Short names for paths: what users call a state is no identifier."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, path: str) -> str:
        return self._known.setdefault(path, f"s{len(self._known)}")


def to_mermaid(graph: Graph, position: "GraphPosition | None" = None) -> str:
    """Return a Mermaid state diagram (``stateDiagram-v2``).

    Args:
        graph: the graph.
        position: where a run is: its state and the states it has been in are marked.
    """
    trail, names = Trail.of(position), _Names()
    lines = ["stateDiagram-v2", *_mermaid(graph, "", names, "    ")]
    if position is not None:
        lines.append("    classDef visited fill:#dbeafe,stroke:#1d4ed8")
        lines.append("    classDef current fill:#fde68a,stroke:#b45309,stroke-width:3px")
        lines += [f"    class {names(p)} visited" for p in sorted(trail.visited - trail.current)]
        lines += [f"    class {names(p)} current" for p in sorted(trail.current)]
    return "\n".join(lines) + "\n"


def _mermaid(graph: Graph, prefix: str, names: _Names, indent: str) -> Iterator[str]:
    for state in graph.states.values():
        name = names(prefix + state.name)
        shown = f"history of {state.history_of}" if state.history_of else state.name
        yield f'{indent}state "{_mermaid_text(shown)}" as {name}'
        if state.composite:
            yield f"{indent}state {name} {{"
            for number, (region, inner) in enumerate(state.regions.items()):
                if number:
                    yield f"{indent}    --"
                path = inner_prefix(prefix, state.name, region)
                yield from _mermaid(inner, path, names, indent + "    ")
            yield indent + "}"
    if graph.initial in graph.states:
        yield f"{indent}[*] --> {names(prefix + graph.initial)}"
    for t in graph.transitions:
        text = _mermaid_text(label(graph, t))
        arrow = f"{indent}{names(prefix + t.source)} --> {names(prefix + t.target)}"
        yield f"{arrow} : {text}" if text else arrow
    for s in graph.states.values():
        if s.on_error is not None:
            yield f"{indent}{names(prefix + s.name)} --> {names(prefix + s.on_error)} : error"
        if s.terminal:
            yield f"{indent}{names(prefix + s.name)} --> [*]"


def _mermaid_text(text: str) -> str:
    return re.sub(r"[^\w .,=\[\]()'+*/|-]", lambda m: f"#{ord(m[0])};", text)


def to_dot(graph: Graph, position: "GraphPosition | None" = None) -> str:
    """Return the graph in Graphviz's language.

    Args:
        graph: the graph.
        position: where a run is: its state, and states and ways that it took, are marked.
    """
    trail, names = Trail.of(position), _Names()
    lines = [
        f"digraph {_dot_text(graph.name)} {{",
        "    compound=true",
        '    node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"]',
        '    edge [fontname="sans-serif", fontsize=10]',
        *_dot(graph, "", names, trail, "    "),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dot(graph: Graph, prefix: str, names: _Names, trail: Trail, indent: str) -> Iterator[str]:
    for state in graph.states.values():
        path = prefix + state.name
        if state.composite:
            yield f"{indent}subgraph cluster_{names(path)} {{"
            yield f"{indent}    label={_dot_text(state.name)}"
            yield f'{indent}    {names(path)} [shape=point, label=""]'
            for region, inner in state.regions.items():
                inside = inner_prefix(prefix, state.name, region)
                yield from _dot(inner, inside, names, trail, indent + "    ")
            yield indent + "}"
        else:
            yield f"{indent}{names(path)} [{_dot_look(state, path, trail)}]"
    for t in graph.transitions:
        way = (prefix + t.source, prefix + t.target)
        bold = ", penwidth=2.5, color=blue" if way in trail.ways else ""
        text = _dot_text(label(graph, t))
        yield f"{indent}{names(way[0])} -> {names(way[1])} [label={text}{bold}]"
    for s in graph.states.values():
        if s.on_error is not None:
            here, there = names(prefix + s.name), names(prefix + s.on_error)
            yield f'{indent}{here} -> {there} [label="error", style=dashed, color=red]'


def _dot_look(state: State, path: str, trail: Trail) -> str:
    shown = "H" if state.history_of else state.name
    look = [f"label={_dot_text(shown)}"]
    if state.terminal:
        look.append("peripheries=2")
    if path in trail.current:
        look.append('fillcolor="#fde68a", penwidth=3')
    elif path in trail.visited:
        look.append('fillcolor="#dbeafe"')
    return ", ".join(look)


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
