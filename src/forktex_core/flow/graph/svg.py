# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A graph as an SVG picture, made without a browser: boxes from layout.py, graphs inside of states
drawn inside of their boxes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from forktex_core.flow.graph.definition import Graph, State
from forktex_core.flow.graph.layout import Box, Layout, lay_out, without_cycles
from forktex_core.flow.graph.pictures import Trail, inner_prefix, label

if TYPE_CHECKING:
    from forktex_core.flow.offering import GraphPosition

_CHAR = 7.6
_MARGIN = 36.0
_HEAD = 28.0
_PAD = 18.0
_MAX_SHOWN = 32
_STYLE = """
.state{fill:#ffffff;stroke:#334155;stroke-width:1.5}
.region{fill:#f8fafc;stroke:#94a3b8;stroke-width:1;stroke-dasharray:5 4}
.visited{fill:#dbeafe;stroke:#1d4ed8}
.current{fill:#fde68a;stroke:#b45309;stroke-width:3}
.ring{fill:none;stroke:#334155;stroke-width:1.5}
.start{fill:#334155}
.way{fill:none;stroke:#64748b;stroke-width:1.4;marker-end:url(#tip)}
.taken{stroke:#1d4ed8;stroke-width:2.8;marker-end:url(#taken)}
.error{stroke:#dc2626;stroke-dasharray:6 4}
text{font:13px sans-serif;fill:#0f172a;text-anchor:middle}
.label{font-size:11px;fill:#334155;paint-order:stroke;stroke:#ffffff;stroke-width:4px}
.region-name{text-anchor:start}
.title{font-weight:bold}
"""


@dataclass(slots=True)
class _Edge:
    source: str
    target: str
    text: str
    error: bool = False
    place: int = 0
    upwards: bool = False
    point: str = ""


@dataclass(slots=True)
class _Drawing:
    """A graph that is laid out, with those inside of its states."""

    graph: Graph
    prefix: str
    edges: list[_Edge]
    layout: Layout
    inner: dict[str, list[tuple[str, "_Drawing"]]]

    @property
    def width(self) -> float:
        return self.layout.width + 2 * _MARGIN

    @property
    def height(self) -> float:
        return self.layout.height + 2 * _MARGIN


def to_svg(graph: Graph, position: "GraphPosition | None" = None) -> str:
    """Return a picture of the graph as SVG text.

    Args:
        graph: the graph.
        position: where a run is: its state is drawn in yellow, states and ways that it took in
            blue.
    """
    drawing = _draw(graph, "")
    trail = Trail.of(position)
    size = f'width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    box = f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img">',
        f"<title>{escape(graph.name)}</title>",
        f"<style>{_STYLE}</style>",
        f"<defs>{_tip('tip', '#64748b')}{_tip('taken', '#1d4ed8')}</defs>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_rendered(drawing, trail, 0.0, 0.0),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _tip(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" '
        'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path d="M0 0L10 5L0 10z" fill="{color}"/></marker>'
    )


def _draw(graph: Graph, prefix: str) -> _Drawing:
    inner = {
        name: [
            (region, _draw(part, inner_prefix(prefix, name, region)))
            for region, part in state.regions.items()
        ]
        for name, state in graph.states.items()
    }
    edges = _edges(graph)
    names = [graph.initial, *(n for n in graph.states if n != graph.initial)]
    sizes = {n: _size(graph.states[n], inner[n]) for n in names if n in graph.states}
    layout = lay_out(*_with_points(sizes, edges))
    return _Drawing(graph, prefix, edges, layout, inner)


def _with_points(
    sizes: dict[str, tuple[float, float]], edges: list[_Edge]
) -> tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]:
    """Lead each arrow with a text through a point of its own, which makes room for the text."""
    points: dict[str, tuple[float, float]] = {}
    ways: list[tuple[str, str]] = []
    turned = without_cycles(list(sizes), [(e.source, e.target) for e in edges])
    for number, (edge, (upper, lower)) in enumerate(zip(edges, turned, strict=True)):
        edge.place, edge.upwards = len(ways), upper != edge.source
        if edge.source == edge.target or not edge.text:
            ways.append((upper, lower))
            continue
        point = edge.point = f"\n{number}"
        points[point] = (len(edge.text) * 6.2, 16.0)
        ways += [(upper, point), (point, lower)]
    return {**sizes, **points}, ways


def _edges(graph: Graph) -> list[_Edge]:
    found = [
        _Edge(t.source, t.target, label(graph, t))
        for t in graph.transitions
        if t.source in graph.states and t.target in graph.states
    ]
    found += [
        _Edge(s.name, s.on_error, "error", error=True)
        for s in graph.states.values()
        if s.on_error in graph.states
    ]
    return found


def _shown(state: State) -> str:
    if state.history_of is not None:
        return "H"
    name = state.name
    return name if len(name) <= _MAX_SHOWN else name[: _MAX_SHOWN - 1] + "…"


def _size(state: State, inner: list[tuple[str, _Drawing]]) -> tuple[float, float]:
    width = max(len(_shown(state)) * _CHAR + 28, 40.0)
    if not inner:
        return width, 40.0
    widths = sum(d.width for _, d in inner) + _PAD * (len(inner) + 1)
    return max(width, widths), max(d.height for _, d in inner) + _HEAD + _PAD


def _rendered(d: _Drawing, trail: Trail, x: float, y: float) -> Iterator[str]:
    left, top = x + _MARGIN, y + _MARGIN
    for state in d.graph.states.values():
        yield from _state(d, state, trail, left, top)
    first = d.layout.boxes.get(d.graph.initial)
    if first is not None:
        sx, sy = left + first.x, top + first.y - first.height / 2
        yield f'<circle class="start" cx="{sx:.1f}" cy="{sy - 24:.1f}" r="6"/>'
        yield f'<path class="way" d="M{sx:.1f} {sy - 18:.1f}V{sy - 1:.1f}"/>'
    for edge in d.edges:
        way = (d.prefix + edge.source, d.prefix + edge.target)
        taken = way in trail.ways
        yield from _arrow(d, edge, left, top, taken=taken)


def _state(d: _Drawing, state: State, trail: Trail, left: float, top: float) -> Iterator[str]:
    box = d.layout.boxes[state.name]
    path = d.prefix + state.name
    look = "current" if path in trail.current else "visited" if path in trail.visited else ""
    x, y = left + box.x - box.width / 2, top + box.y - box.height / 2
    round_by = 20 if state.history_of is not None else 9
    yield f"<g data-state={quoteattr(path)}><title>{escape(path)}</title>"
    yield _rect(f"state {look}".strip(), x, y, box.width, box.height, round_by)
    if state.terminal:
        yield _rect("ring", x + 4, y + 4, box.width - 8, box.height - 8, 6)
    inner = d.inner[state.name]
    middle = y + 19 if inner else top + box.y + 4.5
    kind = "title" if inner else ""
    yield f'<text class="{kind}" x="{left + box.x:.1f}" y="{middle:.1f}">'
    yield f"{escape(_shown(state))}</text>"
    at = x + _PAD
    for region, drawing in inner:
        yield _rect("region", at, y + _HEAD, drawing.width, drawing.height, 6)
        if region:
            yield f'<text class="label region-name" x="{at + 8:.1f}" y="{y + _HEAD + 16:.1f}">'
            yield f"{escape(region[:_MAX_SHOWN])}</text>"
        yield from _rendered(drawing, trail, at, y + _HEAD)
        at += drawing.width + _PAD
    yield "</g>"


def _rect(  # noqa: PLR0917 - the attributes of a rect, in SVG's order
    look: str, x: float, y: float, width: float, height: float, rx: float
) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{look}" x="{x:.1f}" y="{y:.1f}" {size} rx="{rx:g}"/>'


def _arrow(d: _Drawing, edge: _Edge, left: float, top: float, *, taken: bool) -> Iterator[str]:
    look = "way" + (" error" if edge.error else "") + (" taken" if taken else "")
    source, target = d.layout.boxes[edge.source], d.layout.boxes[edge.target]
    if edge.source == edge.target:
        x, y = left + source.x + source.width / 2, top + source.y
        yield f'<path class="{look}" d="M{x:.1f} {y - 8:.1f}c34 -18 34 34 1 16"/>'
        yield from _text(edge.text, x + 14 + len(edge.text) * 3.1, y - 14)
        return
    route = list(d.layout.routes[edge.place])
    x, y = left + route[-1][0], top + route[-1][1]
    if edge.text:
        at = d.layout.boxes[edge.point]
        rest = d.layout.routes[edge.place + 1][1:]
        route = [*route[:-1], (at.x, at.top), (at.x, at.bottom), *rest]
    points = [(left + px, top + py) for px, py in route]
    if edge.upwards:
        points.reverse()
    points = [
        *_border(source, points[1], left, top), *points[1:-1],
        *reversed(_border(target, points[-2], left, top)),
    ]  # fmt: skip
    yield f'<path class="{look}" d="{_curve(points)}"/>'
    yield from _text(edge.text, x, y + 4)


def _text(text: str, x: float, y: float) -> Iterator[str]:
    if text:
        yield f'<text class="label" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _border(
    box: Box, towards: tuple[float, float], left: float, top: float
) -> list[tuple[float, float]]:
    """Return where an arrow meets a box, above or below it, towards where it comes from; and where
    it meets the layer, if the box is smaller.
    """
    below = towards[1] > top + box.y
    reach = box.width / 2 - 12
    x = min(max(towards[0], left + box.x - reach), left + box.x + reach)
    y = top + box.y + (box.height / 2 + 1) * (1 if below else -1)
    edge = top + (box.bottom if below else box.top)
    # The arrow's tip turns with the last piece of the way, so that one must not be too short.
    return [(x, y), (x, edge)] if abs(edge - y) > 4 else [(x, y)]


def _curve(points: list[tuple[float, float]]) -> str:
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (ax, ay), (bx, by) in pairwise(points):
        bend = (by - ay) / 2
        path += f"C{ax:.1f} {ay + bend:.1f} {bx:.1f} {by - bend:.1f} {bx:.1f} {by:.1f}"
    return path
