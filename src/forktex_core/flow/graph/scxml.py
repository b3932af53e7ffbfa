# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""SCXML documents (State Chart XML, W3C Recommendation of 2015), to graphs.

What maps: ``scxml``, ``state``, ``parallel``, ``final``, ``initial``, ``history``, ``onentry``,
``onexit`` and ``transition``, as far as a transition leads to a sibling of its state. Beyond that:

- a registered action is an element ``action`` with a ``name``, in the namespace FORKTEX; an
  attribute ``action`` of that namespace names a state's function;
- ``cond`` is a registered guard (``name()``), or an expression if the datamodel is ``cel``;
- ``done.state.ID`` out of the state ID is the way on when what runs in it has ended, and ``error``
  or ``error.execution`` is its on_error;
- an event that a state sends itself by a delay when it is entered, and that nobody else knows, is a
  timer; an event that it raises when it is entered, and that leads out of it, is no event at all.

Everything else is left out and told, by its place: see Imported. docs/scxml.csv says of each
assertion of W3C's implementation report whether it holds.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.graph.imported import Imported
from forktex_core.flow.graph.markup import Element, read
from forktex_core.flow.graph.validation import Problem

SCXML = "http://www.w3.org/2005/07/scxml"
FORKTEX = "urn:forktex:flow"
_ACTION = f"{{{FORKTEX}}}action"
_NODES = frozenset(("state", "parallel", "final", "history"))
_KNOWN = {
    "scxml": frozenset(("name", "initial", "version", "datamodel", "binding")),
    "state": frozenset(("id", "initial", _ACTION)),
    "parallel": frozenset(("id",)),
    "final": frozenset(("id", _ACTION)),
    "history": frozenset(("id", "type")),
    "transition": frozenset(("event", "cond", "target", "type")),
}
_ERRORS = frozenset(("error", "error.*", "error.execution", "error.execution.*"))
_GUARD = re.compile(r"\s*([^\W\d][\w.-]*)\(\s*\)\s*")
_IN = re.compile(r"\bIn\s*\(")
_DELAY = re.compile(r"\s*(\d*\.?\d+)(ms|s)\s*", re.ASCII)


def from_scxml(text: str | bytes) -> Imported:
    """Read an SCXML document.

    Raises:
        GraphError: it is no XML, has a DOCTYPE, is too large or nested too deeply.
        DefinitionError: it is no state machine, or an id is there twice.
    """
    root = read(text)
    if root.name != "scxml" or root.space not in (SCXML, ""):
        raise DefinitionError(f"it is no SCXML document: its root is {root.name!r:.80}")
    imported = Imported({})
    reader = _Reader(root, imported.unmapped)
    imported.document = reader.graph(root, root.attributes.get("name") or "machine")
    return imported


class _Reader:
    def __init__(self, root: Element, unmapped: list[Problem]) -> None:
        self._unmapped = unmapped
        self._cel = root.attributes.get("datamodel") == "cel"
        self._space = root.space
        self._ids: dict[str, Element] = {}
        self.names: dict[str, str] = {}
        self.heard: Counter[str] = Counter()
        for element in _every(root):
            self._register(element)

    def _register(self, element: Element) -> None:
        if element.space != self._space:
            return
        if element.name in _NODES:
            name = element.attributes.get("id") or f"{element.name} {len(self.names) + 1}"
            if name in self._ids:
                raise DefinitionError(f"the id {name!r:.120} is there twice")
            self._ids[name] = element
            self.names[element.path] = name
        elif element.name == "transition":
            self.heard.update(set(element.attributes.get("event", "").split()))
        elif element.name in ("raise", "send"):
            self.heard[f"!{element.attributes.get('event')}"] += 1

    def skip(self, element: Element, what: str, attribute: str = "") -> None:
        """Tell that an element, or an attribute of it, has no counterpart."""
        path = element.path + (f"/@{attribute}" if attribute else "")
        self._unmapped.append(Problem("unmapped", path, what))

    def _inside(self, element: Element) -> list[Element]:
        """Return the nodes of a compound state."""
        return [c for c in element.children if c.space == self._space and c.name in _NODES]

    def graph(self, element: Element, name: str) -> dict[str, Any]:
        """Return the graph of a compound node."""
        self.attributes(element)
        nodes = self._inside(element)
        found = _bare(name, self._initial(element, nodes))
        for node in nodes:
            if node.name != "history":
                self._node(found, node)
            elif element.parent is None or element.parent.name == "parallel":
                self.skip(node, "a history has a counterpart only in a state beside others")
        if element.parent is None:
            self._others(element, {*_NODES, "initial"})
        return found

    def attributes(self, element: Element) -> None:
        """Tell which attributes of an element have no counterpart."""
        for key in element.attributes.keys() - _KNOWN[element.name]:
            local = key.rpartition("}")[2]
            self.skip(element, f"{local!r:.120} of a {element.name} has no counterpart", local)

    def _others(self, element: Element, known: set[str]) -> None:
        for child in element.children:
            if child.space != self._space or child.name not in known:
                what = f"{child.name!r:.120} in a {element.name} has no counterpart"
                self.skip(child, what)

    def _initial(self, element: Element, nodes: list[Element]) -> str:
        """Return the name of the state that a graph begins in."""
        mine = [self.names[n.path] for n in nodes if n.name != "history"]
        asked, where = element.attributes.get("initial"), element
        for child in element.children:
            if child.space == self._space and child.name == "initial":
                for way in child.children:
                    asked, where = way.attributes.get("target"), way
                    self._content(way)
        if asked is None or asked.strip() in mine:
            return (asked or "").strip() or (mine[0] if mine else "")
        what = f"the initial {asked!r:.120} is no state right inside: only such have a counterpart"
        self.skip(where, what, "initial" if where is element else "target")
        return mine[0] if mine else ""

    def _node(self, graph: dict[str, Any], node: Element) -> None:
        name = self.names[node.path]
        state: dict[str, Any] = {}
        graph["states"][name] = state
        if (function := node.attributes.get(_ACTION)) is not None:
            state["action"] = function
        if node.name == "final":
            self.attributes(node)
            state["terminal"] = True
        elif node.name == "parallel":
            self.attributes(node)
            state["regions"] = self._regions(node)
        elif self._inside(node):
            state["graph"] = self.graph(node, name)
        else:
            self.attributes(node)
        for child in self._inside(node):
            if child.name == "history":
                self._history(graph, name, node, child)
        _Ways(self, graph, node, state).read()
        self._others(node, {*_NODES, "initial", "onentry", "onexit", "transition"})

    def _regions(self, node: Element) -> dict[str, Any]:
        heard: Counter[str] = Counter()
        regions = {}
        for child in self._inside(node):
            name = self.names[child.path]
            heard.update({e for part in _every(child) for e in _events(part)})
            if child.name == "state" and self._inside(child):
                regions[name] = self.graph(child, name)
                for part in child.children:
                    if part.name in ("transition", "onentry", "onexit"):
                        self.skip(part, "what a region itself does has no counterpart")
            elif child.name != "history":
                regions[name] = _bare(name, name)
                self._node(regions[name], child)
        for event in sorted(e for e, count in heard.items() if count > 1):
            self.skip(node, f"{event!r:.120} is heard in several regions: only one takes each")
        return regions

    def _history(self, graph: dict[str, Any], name: str, node: Element, child: Element) -> None:
        graph["states"][self.names[child.path]] = {"history_of": name}
        deep = child.attributes.get("type") == "deep"
        if not deep and any(self._inside(c) for c in self._inside(node)):
            self.skip(child, "it is kept as deep: shallow histories have no counterpart")
        first = graph["states"][name].get("graph", {}).get("initial")
        for way in child.children:
            self._content(way)
            if way.attributes.get("target") != first:
                what = "a history that is not there yet leads to the beginning, to nowhere else"
                self.skip(way, what, "target")

    def _content(self, element: Element) -> None:
        for child in element.children:
            self.skip(child, f"{child.name!r:.120} has no counterpart here")

    def actions(self, element: Element) -> list[str]:
        """Return the registered actions among an element's content."""
        found = []
        for child in element.children:
            if child.space == FORKTEX and child.name == "action" and "name" in child.attributes:
                found.append(child.attributes["name"])
            elif child.name not in ("raise", "send", "cancel") or element.name == "transition":
                self.skip(child, f"{child.name!r:.120} has no counterpart: only actions by name")
        return found

    def guard(self, way: Element) -> Any:
        """Return what a transition's cond is in a document; False when it has no counterpart."""
        cond = way.attributes.get("cond")
        if cond is None or cond.strip() == "true":
            return None
        if (call := _GUARD.fullmatch(cond)) is not None:
            return {"guard": call[1]}
        return cond if self._cel and not _IN.search(cond) else False

    def target(self, way: Element, source: Element) -> str | None:
        """Return the name of a transition's target beside its state; None when it is elsewhere."""
        there = self._ids.get(way.attributes["target"].strip())
        if there is None:
            return None
        if source.parent is not None and source.parent.name == "parallel" and there is not source:
            return None
        beside = there.parent.parent if there.name == "history" and there.parent else there.parent
        return self.names[there.path] if beside is source.parent else None


class _Ways:
    """What a state does when it is entered and left, and its transitions."""

    def __init__(
        self, reader: _Reader, graph: dict[str, Any], node: Element, state: dict[str, Any]
    ) -> None:
        self._reader, self._graph, self._node, self._state = reader, graph, node, state
        self._name = reader.names[node.path]
        self._ways = self._parts("transition")
        self._composite = "graph" in state or "regions" in state
        self._timers: dict[str, float] = {}
        self._sent: set[str] = set()
        self._raised: set[str] = set()

    def read(self) -> None:
        """Put all of it into the graph."""
        for kind, key in (("onentry", "entry"), ("onexit", "exit")):
            found = []
            for block in self._parts(kind):
                found += self._reader.actions(block)
            if found:
                self._state[key] = found[0] if len(found) == 1 else found
        self._events_of_its_own()
        for way in self._ways:
            self._way(way)

    def _parts(self, kind: str) -> list[Element]:
        return [c for c in self._node.children if (c.name, c.space) == (kind, self._node.space)]

    def _events_of_its_own(self) -> None:
        for block in self._parts("onentry"):
            for part in block.children:
                if part.name == "send":
                    self._send(part)
                elif part.name == "raise":
                    self._raise(part)
                elif part.name == "cancel":
                    self._reader.skip(part, "'cancel' has no counterpart here")
        for block in self._parts("onexit"):
            for part in block.children:
                mine = part.name == "cancel" and part.attributes.get("sendid") in self._sent
                if part.name in ("raise", "send", "cancel") and not mine:
                    what = f"{part.name!r} has no counterpart here"
                    self._reader.skip(part, what)

    def _send(self, part: Element) -> None:
        event = part.attributes.get("event", "")
        delay = _DELAY.fullmatch(part.attributes.get("delay", ""))
        extra = part.attributes.keys() - {"event", "delay", "id"} or part.children
        seconds = float(delay[1]) / (1000 if delay[2] == "ms" else 1) if delay else 0
        if extra or seconds <= 0 or not self._mine(event):
            what = "only a delayed event that no other state knows has a counterpart: a timer"
            self._reader.skip(part, what)
            return
        self._timers[event] = seconds
        self._sent.add(part.attributes.get("id", ""))

    def _raise(self, part: Element) -> None:
        event = part.attributes.get("event", "")
        heard = [w for w in self._ways if self._hears(w, event)]
        leads_out = heard and all("target" in w.attributes for w in heard)
        alone = len(heard) == self._reader.heard[event] or not _in_parallel(self._node)
        always = alone and leads_out and "cond" not in heard[-1].attributes
        if self._raised or self._composite or not always:
            what = "only one event that always leads out of its state has a counterpart"
            self._reader.skip(part, what)
        else:
            self._raised.add(event)

    @staticmethod
    def _hears(way: Element, event: str) -> bool:
        return event in way.attributes.get("event", "").split()

    def _mine(self, event: str) -> bool:
        heard = sum(self._hears(w, event) for w in self._ways)
        reader = self._reader
        return bool(event) and heard == reader.heard[event] > 0 and reader.heard[f"!{event}"] == 1

    def _way(self, way: Element) -> None:
        reader = self._reader
        reader.attributes(way)
        events = way.attributes.get("event", "").split()
        target: str | None = self._name
        if "target" in way.attributes and (target := reader.target(way, self._node)) is None:
            what = "only a target beside the state, or a history beside it, has a counterpart"
            reader.skip(way, what, "target")
            return
        guard = reader.guard(way)
        if guard is False:
            what = "only guards by name (paid()) and CEL (datamodel='cel'), without In(), have one"
            reader.skip(way, what, "cond")
            return
        found: dict[str, Any] = {"from": self._name, "to": target}
        if guard is not None:
            found["when"] = guard
        actions = reader.actions(way)
        if actions:
            found["action"] = actions[0] if len(actions) == 1 else actions
        if not events:
            self._eventless(way, found)
        for event in events:
            self._event(way, event, found)

    def _eventless(self, way: Element, found: dict[str, Any]) -> None:
        waits = any(self._waits_for(e) for w in self._ways for e in _events(w))
        if self._composite or waits or "target" not in way.attributes:
            what = "a transition without an event beside others with one has no counterpart"
            self._reader.skip(way, what)
        else:
            self._graph["transitions"].append(found)

    def _waits_for(self, event: str) -> bool:
        own = event in self._timers or event in self._raised or event in _ERRORS
        return not own and not event.startswith(("done.", "error."))

    def _event(self, way: Element, event: str, found: dict[str, Any]) -> None:
        if event in _ERRORS:
            self._error(way, found)
        elif event in self._raised or (self._ends(event) and "target" in way.attributes):
            self._graph["transitions"].append(found)
        elif event in self._timers and "target" in way.attributes:
            self._graph["transitions"].append({**found, "after": self._timers[event]})
        elif not self._waits_for(event) or "*" in event or self._raised:
            what = f"the event {event!r:.120} has no counterpart here"
            self._reader.skip(way, what, "event")
        else:
            inner = {} if "target" in way.attributes else {"internal": True}
            self._graph["transitions"].append({**found, "on": event, **inner})
            if not self._composite:
                self._state["manual"] = True

    def _ends(self, event: str) -> bool:
        return self._composite and event == f"done.state.{self._name}"

    def _error(self, way: Element, found: dict[str, Any]) -> None:
        plain = found.keys() == {"from", "to"} and "target" in way.attributes
        if plain and "on_error" not in self._state:
            self._state["on_error"] = found["to"]
        else:
            what = "only one way, without guard and actions, has a counterpart for errors"
            self._reader.skip(way, what, "event")


def _bare(name: str, initial: str) -> dict[str, Any]:
    # SCXML drops the events that nothing in the present configuration takes.
    return {
        "name": name, "initial": initial, "unhandled": "reject", "states": {}, "transitions": [],
    }  # fmt: skip


def _events(way: Element) -> list[str]:
    return way.attributes.get("event", "").split()


def _in_parallel(element: Element | None) -> bool:
    while element is not None and element.name != "parallel":
        element = element.parent
    return element is not None


def _every(root: Element) -> Iterator[Element]:
    pending = [root]
    while pending:
        here = pending.pop()
        yield here
        pending += reversed(here.children)
