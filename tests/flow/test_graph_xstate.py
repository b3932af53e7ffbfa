# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Machines of XState v5 become graphs; what doesn't map is told. The data is our own."""

import json
from typing import Any

import pytest

from forktex_core.flow import DefinitionError, Graph, GraphError, Library

library = Library()


@library.action
async def ring(ctx: Any, payload: Any) -> Any:
    return payload


@library.guard
def loud(payload: Any) -> bool:
    return bool(payload["loud"])


MACHINE = {
    "id": "doorbell",
    "initial": "idle",
    "context": {"rings": 0},
    "states": {
        "idle": {
            "entry": "ring",
            "on": {
                "PRESS": [{"target": "checking", "guard": "loud"}, {"target": "off"}],
                "WIPE": {"actions": [{"type": "ring"}]},
                "AGAIN": {"target": "idle", "reenter": True},
                "*": "off",
                "JUMP": "#doorbell.off",
            },
            "after": {"1500": "off", "later": "off"},
            "tags": ["quiet"],
        },
        "checking": {"always": [{"target": "house", "guard": {"type": "loud"}}, "off"]},
        "house": {
            "initial": "hall",
            "states": {
                "hall": {"on": {"WALK": "room"}},
                "room": {"type": "final"},
                "past": {"type": "history"},
            },
            "on": {"LEAVE": "porch"},
            "onDone": "both",
        },
        "porch": {"on": {"BACK": "house.past"}},
        "both": {
            "type": "parallel",
            "states": {
                "light": {"initial": "on", "states": {"on": {"type": "final"}}},
                "sound": {"initial": "on", "states": {"on": {"type": "final"}}},
            },
            "onDone": "off",
            "invoke": {"src": "watch"},
        },
        "off": {"type": "final", "exit": ["ring", {"type": "ring", "params": {}}, "ring"]},
    },
}


def test_what_maps_is_mapped() -> None:
    """Events, guards, delays, nested and parallel states and history end up in the right places."""
    graph = Graph.from_xstate(json.dumps(MACHINE)).graph(library)
    assert graph.name == "doorbell"
    assert graph.states["idle"].manual
    assert graph.states["idle"].entry is ring
    assert graph.states["off"].exit.functions == (ring, ring)
    assert list(graph.states["both"].regions) == ["light", "sound"]
    assert list(graph.states["house"].regions[""].states) == ["hall", "room"]
    assert graph.states["house.past"].history_of == "house"
    ways = {(t.source, t.target, t.on, t.after, t.internal) for t in graph.transitions}
    assert ways == {
        ("idle", "checking", "PRESS", None, False),
        ("idle", "off", "PRESS", None, False),
        ("idle", "idle", "WIPE", None, True),
        ("idle", "idle", "AGAIN", None, False),
        ("idle", "off", None, 1.5, False),
        ("checking", "house", None, None, False),
        ("checking", "off", None, None, False),
        ("house", "porch", "LEAVE", None, False),
        ("house", "both", None, None, False),
        ("porch", "house.past", "BACK", None, False),
        ("both", "off", None, None, False),
    }


def test_what_does_not_map_is_told_with_its_path() -> None:
    """Each thing that was left out is named once, by where it stands."""
    found = {p.path for p in Graph.from_xstate(json.dumps(MACHINE)).unmapped}
    assert found == {
        "/context",
        "/states/idle/tags",
        "/states/idle/on/*",
        "/states/idle/on/JUMP",
        "/states/idle/after/later",
        "/states/both/invoke",
        "/states/off/exit/1",
    }


def test_what_is_no_machine_or_names_what_is_not_there_is_refused() -> None:
    """Other JSON, hostile texts, and names that the library lacks."""
    for text in ("[]", '{"states": 1}', "7"):
        with pytest.raises(DefinitionError, match="no XState machine"):
            Graph.from_xstate(text)
    for text in ("{", "[" * 9999, "x" * 2_000_000):
        with pytest.raises(GraphError):
            Graph.from_xstate(text)
    with pytest.raises(GraphError, match="there is no action 'ring'"):
        Graph.from_xstate(json.dumps(MACHINE)).graph(Library())
