# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where the boxes of a graph's picture stand: a layered drawing after Sugiyama, Tagawa and Toda
(1981), from top to bottom.

Four steps: cycles are broken at the edges that lead back to where the search came from; each box
gets the layer of its longest way from above; edges over several layers are led through points in
between; and the layers are ordered, and moved sideways, by the middle of what each box is
connected to.
"""

from dataclasses import dataclass, field
from itertools import pairwise

GAP_X = 48.0
GAP_Y = 36.0
_SWEEPS = 8


@dataclass(slots=True)
class Box:
    """A box of a size, and the middle of where it stands. Between ``top`` and ``bottom`` of its
    layer boxes are beside it, so an arrow goes straight up or down there; it goes sideways only
    between the layers, where nothing is in its way.
    """

    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    top: float = 0.0
    bottom: float = 0.0


@dataclass(slots=True)
class Layout:
    """Boxes in their places, the points that each edge passes, and the whole size."""

    boxes: dict[str, Box]
    routes: list[list[tuple[float, float]]]
    width: float
    height: float


@dataclass(slots=True)
class _Node:
    box: Box
    layer: int = 0
    up: "list[_Node]" = field(default_factory=list)
    down: "list[_Node]" = field(default_factory=list)


def lay_out(sizes: dict[str, tuple[float, float]], edges: list[tuple[str, str]]) -> Layout:
    """Place boxes of given sizes.

    Args:
        sizes: width and height of each box; the first one stands on top.
        edges: pairs of boxes; one from a box to itself gets no route.
    """
    nodes = {name: _Node(Box(*size)) for name, size in sizes.items()}
    forward = without_cycles(list(sizes), edges)
    _assign_layers(nodes, forward)
    chains = [_chain(nodes, *edge) for edge in forward]
    layers = _layers(nodes, chains)
    for sweep in range(_SWEEPS):
        _order(layers, downwards=sweep % 2 == 0)
    _place(layers)
    return _measured(nodes, layers, _routes(edges, forward, chains))


def without_cycles(names: list[str], edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the edges with those turned round that lead back."""
    targets: dict[str, list[str]] = {name: [] for name in names}
    for upper, lower in edges:
        targets[upper].append(lower)
    back, seen, active = set(), set(), set()
    for root in names:
        if root in seen:
            continue
        work = [(root, iter(targets[root]))]
        seen.add(root)
        active.add(root)
        while work:
            here, rest = work[-1]
            target = next(rest, None)
            if target is None:
                active.discard(here)
                work.pop()
            elif target in active:
                back.add((here, target))
            elif target not in seen:
                seen.add(target)
                active.add(target)
                work.append((target, iter(targets[target])))
    return [(b, a) if (a, b) in back else (a, b) for a, b in edges]


def _assign_layers(nodes: dict[str, _Node], edges: list[tuple[str, str]]) -> None:
    waiting = dict.fromkeys(nodes, 0)
    targets: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        if source != target:
            waiting[target] += 1
            targets[source].append(target)
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        for target in targets[name]:
            nodes[target].layer = max(nodes[target].layer, nodes[name].layer + 1)
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)


def _chain(nodes: dict[str, _Node], source: str, target: str) -> list[_Node]:
    """Return the nodes that an edge passes, with points of no size in the layers between."""
    if source == target:
        return []
    first, last = nodes[source], nodes[target]
    between = [_Node(Box(8.0, 0.0), layer) for layer in range(first.layer + 1, last.layer)]
    chain = [first, *between, last]
    for upper, lower in pairwise(chain):
        upper.down.append(lower)
        lower.up.append(upper)
    return chain


def _layers(nodes: dict[str, _Node], chains: list[list[_Node]]) -> list[list[_Node]]:
    count = max((node.layer for node in nodes.values()), default=-1) + 1
    layers: list[list[_Node]] = [[] for _ in range(count)]
    for node in nodes.values():
        layers[node.layer].append(node)
    for chain in chains:
        for node in chain[1:-1]:
            layers[node.layer].append(node)
    return layers


def _order(layers: list[list[_Node]], *, downwards: bool) -> None:
    for layer in layers if downwards else layers[::-1]:
        places = {id(n): i for other in layers for i, n in enumerate(other)}
        keys = {}
        for here, node in enumerate(layer):
            near = [places[id(n)] for n in (node.up if downwards else node.down)]
            keys[id(node)] = sum(near) / len(near) if near else float(here)
        layer.sort(key=lambda node: keys[id(node)])


def _place(layers: list[list[_Node]]) -> None:
    y = 0.0
    for layer in layers:
        tallest = max(node.box.height for node in layer)
        x = 0.0
        for node in layer:
            node.box.x, node.box.y = x + node.box.width / 2, y + tallest / 2
            node.box.top, node.box.bottom = y, y + tallest
            x += node.box.width + GAP_X
        y += tallest + GAP_Y
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            _pull(layer)


def _pull(layer: list[_Node]) -> None:
    """Move the boxes of a layer towards what they are connected to, without overlap."""
    wanted = []
    for node in layer:
        near = [other.box.x for other in (*node.up, *node.down)]
        wanted.append(sum(near) / len(near) if near else node.box.x)
    left, right = list(wanted), list(wanted)
    for i in range(1, len(layer)):
        left[i] = max(left[i], left[i - 1] + _apart(layer[i - 1], layer[i]))
    for i in range(len(layer) - 2, -1, -1):
        right[i] = min(right[i], right[i + 1] - _apart(layer[i], layer[i + 1]))
    for node, a, b in zip(layer, left, right, strict=True):
        node.box.x = (a + b) / 2


def _apart(a: _Node, b: _Node) -> float:
    return (a.box.width + b.box.width) / 2 + GAP_X


def _routes(
    edges: list[tuple[str, str]], forward: list[tuple[str, str]], chains: list[list[_Node]]
) -> list[list[_Node]]:
    return [
        chain if edge == turned else chain[::-1]
        for edge, turned, chain in zip(edges, forward, chains, strict=True)
    ]


def _points(route: list[_Node]) -> list[tuple[float, float]]:
    """Return where an edge passes: the middles of its boxes, and straight through the layers in
    between.
    """
    points: list[tuple[float, float]] = []
    for place, node in enumerate(route):
        box = node.box
        if 0 < place < len(route) - 1:
            through = [(box.x, box.top), (box.x, box.bottom)]
            down = route[0].box.y < box.y
            points += through if down else through[::-1]
        else:
            points.append((box.x, box.y))
    return points


def _measured(
    nodes: dict[str, _Node], layers: list[list[_Node]], routes: list[list[_Node]]
) -> Layout:
    every = [node.box for layer in layers for node in layer]
    left = min((b.x - b.width / 2 for b in every), default=0.0)
    for box in every:
        box.x -= left
    return Layout(
        {name: node.box for name, node in nodes.items()},
        [_points(route) for route in routes],
        max((b.x + b.width / 2 for b in every), default=0.0),
        max((b.y + b.height / 2 for b in every), default=0.0),
    )
