# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Machines of XState v5, as JSON, to graphs.

What maps: states, final states, ``on``, ``always``, ``after`` in milliseconds, named actions for
entry, exit and transitions, named guards, compound states (sub-graphs), parallel states
(forks), history of a compound state (always deep), ``onDone``. Everything else is left out and
told: see Imported.
"""

from typing import Any

from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.graph.imported import Imported
from forktex_core.flow.graph.validation import Problem, pointer

_STATE = frozenset(
    "id type initial states on always after entry exit onDone history target description".split()
)
_WAY = frozenset("target guard actions reenter description".split())


def from_xstate(text: str | bytes) -> Imported:
    """Read the JSON of an XState v5 machine.

    Raises:
        GraphError: it is no JSON, too large or nested too deeply.
        DefinitionError: it is no machine.
    """
    from forktex_core.flow.graph.document import load

    machine = load(text)
    if not isinstance(machine, dict) or not isinstance(machine.get("states"), dict):
        raise DefinitionError("it is no XState machine: an object with 'states' was expected")
    imported = Imported({})
    name = machine.get("id")
    reader = _Reader(imported.unmapped)
    imported.document = reader.graph(name if isinstance(name, str) else "machine", machine, "")
    return imported


class _Reader:
    def __init__(self, unmapped: list[Problem]) -> None:
        self._unmapped = unmapped

    def _skip(self, path: str, what: str) -> None:
        self._unmapped.append(Problem("unmapped", path, what))

    def graph(self, name: str, node: dict[str, Any], path: str) -> dict[str, Any]:
        """Return the graph of a compound node."""
        if path == "":
            for key in node.keys() - {"id", "initial", "states", "description"}:
                self._skip(pointer(key), f"{key!r} of a machine has no counterpart")
        found: dict[str, Any] = {
            "name": name, "initial": node.get("initial", ""), "states": {}, "transitions": [],
        }  # fmt: skip
        for key, state in node["states"].items():
            here = path + pointer("states", key)
            if not isinstance(state, dict):
                self._skip(here, "a state must be an object")
            elif state.get("type") != "history":
                self._state(found, key, state, here)
        return found

    def _state(self, graph: dict[str, Any], key: str, node: dict[str, Any], path: str) -> None:
        for other in sorted(node.keys() - _STATE):
            self._skip(path + pointer(other), f"{other!r} of a state has no counterpart")
        state: dict[str, Any] = {}
        graph["states"][key] = state
        for what in ("entry", "exit"):
            if (action := self._action(node.get(what), path + pointer(what))) is not None:
                state[what] = action
        if node.get("type") == "final":
            state["terminal"] = True
        elif isinstance(node.get("states"), dict):
            self._inside(graph, state, key, node, path)
        elif node.get("on"):
            state["manual"] = True
        self._ways(graph, key, node, path, manual=bool(state.get("manual")))

    def _inside(
        self, graph: dict[str, Any], state: dict[str, Any], key: str, node: Any, path: str
    ) -> None:
        if node.get("type") == "parallel":
            state["regions"] = {
                name: self.graph(name, inner, path + pointer("states", name))
                for name, inner in node["states"].items()
                if isinstance(inner, dict) and isinstance(inner.get("states"), dict)
            }
            for name in node["states"].keys() - state["regions"].keys():
                self._skip(path + pointer("states", name), "a region without states is left out")
        else:
            state["graph"] = self.graph(key, node, path)
        for name, inner in node["states"].items():
            if isinstance(inner, dict) and inner.get("type") == "history":
                graph["states"][f"{key}.{name}"] = {"history_of": key}

    def _ways(
        self, graph: dict[str, Any], key: str, node: dict[str, Any], path: str, *, manual: bool
    ) -> None:
        always = path + pointer("always")
        if manual and "always" in node:
            self._skip(always, "'always' beside 'on': a state either waits or is left by itself")
        else:
            self._each(graph, key, node.get("always"), always, {})
        self._each(graph, key, node.get("onDone"), path + pointer("onDone"), {})
        for event, ways in _items(node.get("on")):
            here = path + pointer("on", event)
            if "*" in event:
                self._skip(here, "wildcards have no counterpart")
            else:
                self._each(graph, key, ways, here, {"on": event})
        for delay, ways in _items(node.get("after")):
            here = path + pointer("after", delay)
            if delay.isdecimal() and int(delay) > 0:
                self._each(graph, key, ways, here, {"after": int(delay) / 1000})
            else:
                self._skip(here, f"the delay {delay!r} is no number of milliseconds")

    def _each(
        self, graph: dict[str, Any], key: str, ways: Any, path: str, trigger: dict[str, Any]
    ) -> None:
        for number, way in enumerate(ways if isinstance(ways, list) else [ways]):
            here = path + pointer(number) if isinstance(ways, list) else path
            if way is not None:
                self._way(
                    graph, key, {"target": way} if isinstance(way, str) else way, here, trigger
                )

    def _way(self, graph: dict[str, Any], key: str, way: Any, path: str, trigger: Any) -> None:
        target = way.get("target", key) if isinstance(way, dict) else None
        if not isinstance(target, str) or target[:1] in ("#", "."):
            self._skip(path, "only targets beside the state, by their key, have a counterpart")
            return
        for other in sorted(way.keys() - _WAY):
            self._skip(path + pointer(other), f"{other!r} of a transition has no counterpart")
        found = {"from": key, "to": target, **trigger}
        guard = way.get("guard")
        name = guard.get("type") if isinstance(guard, dict) else guard
        if guard is not None and (not isinstance(name, str) or "guards" in _keys(guard)):
            self._skip(path + pointer("guard"), "only guards by name have a counterpart")
            return
        if name is not None:
            found["when"] = {"guard": name}
        if (action := self._action(way.get("actions"), path + pointer("actions"))) is not None:
            found["action"] = action
        if target == key and not way.get("reenter") and "on" in trigger:
            found["internal"] = True
        graph["transitions"].append(found)

    def _action(self, actions: Any, path: str) -> str | list[str] | None:
        """Return the names of actions; one that has no counterpart leaves the others."""
        found = []
        for number, one in enumerate(actions if isinstance(actions, list) else [actions]):
            name = one.get("type") if isinstance(one, dict) and set(one) == {"type"} else one
            if isinstance(name, str) and not name.startswith("xstate."):
                found.append(name)
            elif one is not None:
                here = path + pointer(number) if isinstance(actions, list) else path
                self._skip(here, "only actions by name, without parameters, have a counterpart")
        return found[0] if len(found) == 1 else found or None


def _items(found: Any) -> list[tuple[str, Any]]:
    return list(found.items()) if isinstance(found, dict) else []


def _keys(guard: Any) -> set[str]:
    return set(guard) if isinstance(guard, dict) else set()
