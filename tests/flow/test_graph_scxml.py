# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""SCXML documents become graphs; what doesn't map is told; hostile XML is refused. No database."""

import random
from typing import Any

import pytest

from forktex_core.flow import DefinitionError, Graph, GraphError, Library
from forktex_core.flow.graph import markup

library = Library()


@library.action
async def ring(ctx: Any, payload: Any) -> Any:
    return payload


@library.action
async def note(ctx: Any, payload: Any) -> Any:
    return payload


@library.guard
def loud(payload: Any) -> bool:
    return bool(payload["loud"])


DOOR = """<?xml version="1.0" encoding="UTF-8"?>
<scxml xmlns="http://www.w3.org/2005/07/scxml" xmlns:f="urn:forktex:flow" name="door"
       datamodel="cel" version="1.0" initial="idle" f:owner="nobody">
  <datamodel><data id="x" expr="1"/></datamodel>
  <state id="idle" f:action="ring">
    <onentry><f:action name="ring"/><f:action name="note"/><log expr="'in'"/>
      <send event="bored" delay="1.5s" id="t"/><raise event="never"/><cancel sendid="q"/></onentry>
    <onexit><cancel sendid="t"/><send event="out"/></onexit>
    <transition event="press push" target="house" cond="loud()"><f:action name="note"/></transition>
    <transition event="wipe" cond="payload.n &lt; 3"/>
    <transition event="bored" target="over"/>
    <transition event="error.execution" target="over"/>
    <transition event="error" target="house"/>
    <transition event="*" target="over"/>
    <transition target="over"/>
    <transition event="jump" target="hall"/>
    <transition event="in" cond="In('idle')" target="over" type="external"/>
    <invoke type="scxml"/>
  </state>
  <state id="house">
    <history id="past" type="deep"/>
    <state id="hall"><transition event="walk" target="room"/></state>
    <final id="room"><donedata/></final>
    <transition event="leave" target="porch"/>
    <transition event="done.state.house" target="both"/>
    <transition event="done.state.idle" target="porch"/>
    <transition target="porch"/>
  </state>
  <state id="porch"><transition event="back" target="past"/></state>
  <parallel id="both">
    <state id="light"><state id="on"><transition event="off" target="dark"/></state>
      <final id="dark"/><transition event="x" target="over"/></state>
    <state id="sound"><transition event="off"/><transition event="y" target="light"/></state>
    <transition event="stop" target="over"/>
  </parallel>
  <final id="over"/>
</scxml>"""


def ways(graph: Graph) -> set[tuple[Any, ...]]:
    """Return what the transitions of a graph are."""
    return {(t.source, t.target, t.on, t.after, t.internal) for t in graph.transitions}


def test_what_maps_is_mapped() -> None:
    """States, events, guards, actions, timers, errors, histories, regions are in their places."""
    graph = Graph.from_scxml(DOOR).graph(library)
    assert (graph.name, graph.initial, graph.unhandled) == ("door", "idle", "reject")
    idle = graph.states["idle"]
    assert (idle.function, idle.manual, idle.on_error) == (ring, True, "over")
    assert idle.entry.functions == (ring, note)
    assert list(graph.states["house"].regions[""].states) == ["hall", "room"]
    assert graph.states["past"].history_of == "house"
    assert list(graph.states["both"].regions) == ["light", "sound"]
    assert ways(graph.states["both"].regions["sound"]) == {("sound", "sound", "off", None, True)}
    assert graph.states["over"].terminal
    assert ways(graph) == {
        ("idle", "house", "press", None, False),
        ("idle", "house", "push", None, False),
        ("idle", "idle", "wipe", None, True),
        ("idle", "over", None, 1.5, False),
        ("house", "porch", "leave", None, False),
        ("house", "both", None, None, False),
        ("porch", "past", "back", None, False),
        ("both", "over", "stop", None, False),
    }
    assert graph.transitions[0].when is loud
    assert graph.transitions[0].action is note
    text = graph.to_json(library)
    assert Graph.from_json(text, library).to_json(library) == text


def test_what_does_not_map_is_told_with_its_place() -> None:
    """Each thing that was left out is named by an XPath, once."""
    found = [p.path for p in Graph.from_scxml(DOOR).unmapped]
    assert sorted(found) == sorted([
        "/scxml/@owner",
        "/scxml/datamodel[1]",
        "/scxml/state[1]/onentry[1]/log[1]",
        "/scxml/state[1]/onentry[1]/raise[1]",
        "/scxml/state[1]/onentry[1]/cancel[1]",
        "/scxml/state[1]/onexit[1]/send[1]",
        "/scxml/state[1]/transition[5]/@event",
        "/scxml/state[1]/transition[6]/@event",
        "/scxml/state[1]/transition[7]",
        "/scxml/state[1]/transition[8]/@target",
        "/scxml/state[1]/transition[9]/@cond",
        "/scxml/state[1]/invoke[1]",
        "/scxml/state[2]/final[1]/donedata[1]",
        "/scxml/state[2]/transition[3]/@event",
        "/scxml/state[2]/transition[4]",
        "/scxml/parallel[1]",
        "/scxml/parallel[1]/state[1]/transition[1]",
        "/scxml/parallel[1]/state[2]/transition[2]/@target",
    ])  # fmt: skip


def test_conditions_of_other_data_models_leave_their_transition_out() -> None:
    """Of ECMAScript only guards by name are taken over: nothing is guessed."""
    found = Graph.from_scxml(DOOR.replace('datamodel="cel"', 'datamodel="ecmascript"'))
    places = {p.path for p in found.unmapped if p.path.endswith("@cond")}
    assert places == {
        "/scxml/state[1]/transition[2]/@cond", "/scxml/state[1]/transition[9]/@cond",
    }  # fmt: skip
    assert found.graph(library).transitions[0].when is loud


_LEFT_OUT = {
    "/scxml/state[1]/@initial": '<state id="a" initial="c"><state id="b"/></state>',
    "/scxml/state[1]/initial[1]/transition[1]/@target": """<state id="a"><initial>
        <transition target="c d"/></initial><state id="b"/></state>""",
    "/scxml/history[1]": '<history id="h"/>',
    "/scxml/state[1]/history[1]": """<state id="a"><history id="h"/><state id="b">
        <state id="c"/></state></state>""",
    "/scxml/state[1]/history[1]/transition[1]/@target": """<state id="a"><history id="h">
        <transition target="c"/></history><state id="b"/><state id="c"/></state>""",
    "/scxml/state[1]/onentry[1]/raise[1]": """<state id="a"><onentry><raise event="e"/></onentry>
        <transition event="e" cond="x()" target="b"/></state><state id="b"/>""",
    "/scxml/state[1]/onentry[1]/send[1]": """<state id="a">
        <onentry><send event="e" delay="1s"/></onentry><transition event="e" target="b"/></state>
        <state id="b"><transition event="e"/></state>""",
    "/scxml/state[1]/onentry[1]/send[2]": """<state id="a">
        <onentry><send event="f" delay="1s"/><send event="e" delay="soon"/></onentry>
        <transition event="e f" target="a"/></state>""",
    "/scxml/parallel[1]/state[1]/onentry[1]/raise[1]": """<parallel id="p"><state id="a">
        <onentry><raise event="e"/></onentry><transition event="e" target="a"/></state>
        <state id="b"><transition event="e"/></state></parallel>""",
    "/scxml/parallel[1]/state[1]/history[1]": """<parallel id="p"><state id="a">
        <history id="h"/><state id="b"/></state></parallel>""",
    "/scxml/state[1]/transition[1]/assign[1]": """<state id="a"><transition event="e">
        <assign location="x"/></transition></state>""",
    "/scxml/state[1]/@extra": '<state id="a" extra="1"/>',
}


@pytest.mark.parametrize("path", _LEFT_OUT)
def test_each_thing_without_a_counterpart_is_told(path: str) -> None:
    """Once, by its place."""
    found = Graph.from_scxml(f'<scxml datamodel="cel">{_LEFT_OUT[path]}</scxml>')
    assert [p.path for p in found.unmapped].count(path) == 1
    assert {p.code for p in found.unmapped} == {"unmapped"}


BOMB = """<?xml version="1.0"?><!DOCTYPE scxml [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]><scxml name="&c;"/>"""
EXTERNAL = """<!DOCTYPE scxml [<!ENTITY x SYSTEM "file:///etc/hostname">]><scxml name="&x;"/>"""
REMOTE = '<!DOCTYPE scxml SYSTEM "http://127.0.0.1:9/x.dtd"><scxml/>'


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        (BOMB, "wrong-xml", "DOCTYPE"),
        (EXTERNAL, "wrong-xml", "DOCTYPE"),
        (REMOTE, "wrong-xml", "DOCTYPE"),
        ('<!DOCTYPE scxml [<!ATTLIST scxml name CDATA "x">]><scxml/>', "wrong-xml", "DOCTYPE"),
        ("<scxml>" + "<state>" * 100_000, "nested-too-deep", "more than 40 deep"),
        ("<scxml>" + "<state/>" * 100_000 + "</scxml>", "too-large", "more than 20,000 elements"),
        ("<scxml>" + "x" * 2_000_000 + "</scxml>", "too-large", "2,000,015 bytes"),
        ("<scxml", "wrong-xml", "no XML"),
        ("", "wrong-xml", "no XML"),
        ("<scxml>&lol;</scxml>", "wrong-xml", "undefined entity"),
        ("<scxml a='1' a='2'/>", "wrong-xml", "duplicate attribute"),
        ("<scxml\x00/>", "wrong-xml", "no XML"),
        ("\ud800", "wrong-xml", "no UTF-8"),
        ('<?xml version="1.0" encoding="utf-16"?><scxml/>'.encode("utf-16"), "wrong-xml", "UTF-8"),
        (b"\xff", "wrong-xml", "no UTF-8"),
        ("<f:scxml/>", "wrong-xml", "unbound prefix"),
    ],
    ids=lambda value: str(value)[:16],
)
def test_hostile_xml_is_refused(text: str | bytes, code: str, why: str) -> None:
    """Bombs, external entities, depth, size, broken texts: one error that names the cause."""
    with pytest.raises(GraphError, match=why) as caught:
        Graph.from_scxml(text)
    assert [p.code for p in caught.value.problems] == [code]


def test_the_reader_stops_where_the_limit_is() -> None:
    """Of a text that is nested too deeply no more is built than the limit allows."""
    builder = markup._Builder()
    with pytest.raises(GraphError):
        builder.parser().Parse("<a>" * 300_000, True)
    assert builder._elements == markup.MAX_NESTING + 1


def test_what_is_no_machine_is_refused() -> None:
    """Other XML, an id that is there twice, no states, names that the library lacks."""
    for text in ("<html/>", '<scxml xmlns="urn:other"/>'):
        with pytest.raises(DefinitionError, match="no SCXML document"):
            Graph.from_scxml(text)
    twice = '<scxml><state id="a"><state id="b"/></state><state id="b"/></scxml>'
    with pytest.raises(DefinitionError, match="'b' is there twice"):
        Graph.from_scxml(twice)
    with pytest.raises(GraphError) as caught:
        Graph.from_scxml("<scxml/>").graph()
    assert {p.path for p in caught.value.problems} == {"/initial", "/states"}
    with pytest.raises(GraphError, match="there is no action 'ring'"):
        Graph.from_scxml(DOOR).graph(Library())


def test_states_without_an_id_get_a_name() -> None:
    """As SCXML says: the processor gives one."""
    found = Graph.from_scxml(
        "<scxml><state><transition target='z'/></state><final id='z'/></scxml>"
    )
    assert list(found.graph().states) == ["state 1", "z"]


def test_mutilated_documents_end_in_an_error_or_a_list() -> None:
    """A document with a piece cut out or doubled is read, or refused: nothing else escapes."""
    draw = random.Random(9)
    for _ in range(300):
        at, length = draw.randrange(len(DOOR)), draw.randint(1, 30)
        piece = draw.choice(["", DOOR[at : at + length] * 2])
        try:
            Graph.from_scxml(DOOR[:at] + piece + DOOR[at + length :]).graph(library)
        except DefinitionError:
            continue
