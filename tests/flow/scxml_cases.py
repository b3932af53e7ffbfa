# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""State machines for the assertions of docs/scxml.csv that hold, wholly or partly: our own.

``[x]`` stands for an action named x, which leaves its name behind; one named ``boom`` raises.
"""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A document and what comes of it.

    Args:
        body: what stands inside of scxml.
        marks: the names that its actions leave behind, in order.
        signals: each is sent when the one before has been looked at.
        path: the states that were entered, if that is what counts.
        attributes: of scxml.
        unmapped: the paths of what was left out.
    """

    body: str
    marks: str = ""
    signals: tuple[str, ...] = ()
    path: str = ""
    attributes: str = ""
    unmapped: list[str] = field(default_factory=list)

    def document(self, name: str) -> str:
        """Return the whole text."""
        body = re.sub(r"\[(\w+)\]", r'<f:action name="\1"/>', self.body)
        spaces = 'xmlns="http://www.w3.org/2005/07/scxml" xmlns:f="urn:forktex:flow"'
        return (
            f'<scxml {spaces} version="1.0" datamodel="cel" name="{name}" {self.attributes}>'
            f'{body}<final id="end"/></scxml>'
        )


CASES = {
    "355": Case(
        """<state id="first"><onentry>[first]</onentry><transition event="go" target="end"/>
        <transition event="on" target="second"/></state>
        <state id="second"><onentry>[second]</onentry><transition target="first"/></state>""",
        "first", ("go",),
    ),
    "576": Case(
        """<state id="first"><onentry>[first]</onentry><transition target="end"/></state>
        <state id="second"><onentry>[second]</onentry><transition target="first"/></state>""",
        "second first", attributes='initial="second"',
    ),
    "364": Case(
        """<state id="one" initial="one2"><state id="one1"><onentry>[one1]</onentry>
        <transition target="one2"/></state>
        <state id="one2"><onentry>[one2]</onentry><transition cond="payload.n == 2" target="one1"/>
        <transition target="one3"/></state><final id="one3"/>
        <transition event="done.state.one" target="two"/></state>
        <state id="two"><initial><transition target="two2"/></initial>
        <state id="two1"><transition target="two3"/></state>
        <state id="two2"><onentry>[two2]</onentry><transition target="two1"/></state>
        <final id="two3"/><transition event="done.state.two" target="three"/></state>
        <state id="three"><onentry>[three]</onentry><state id="three1"><onentry>[three1]</onentry>
        <transition target="three2"/></state><final id="three2"/>
        <transition event="done.state.three" target="end"/></state>""",
        "one2 two2 three three1",
    ),
    "372": Case(
        """<state id="work"><final id="over"><onentry>[over]</onentry></final>
        <transition event="done.state.work" target="after"/></state>
        <state id="after"><onentry>[after]</onentry><transition target="end"/></state>""",
        "over after",
    ),
    "375": Case(
        """<state id="s"><onentry>[a]</onentry><onentry>[b][c]</onentry>
        <transition target="end"/></state>""",
        "a b c",
    ),
    "377": Case(
        """<state id="s"><onexit>[a]</onexit><onexit>[b][c]</onexit>
        <transition target="end">[d]</transition></state>""",
        "a b c d",
    ),
    "387": Case(
        """<state id="s"><transition target="h"/></state>
        <state id="work"><history id="h" type="deep"><transition target="w1"/></history>
        <state id="w1"><onentry>[w1]</onentry><transition target="w2"/></state><final id="w2"/>
        <transition event="done.state.work" target="end"/></state>""",
        "w1", path="s h work/w1 work/w2 end",
    ),
    "388": Case(
        """<state id="work"><history id="h"/>
        <state id="w1"><onentry>[w1]</onentry><transition event="on" target="w2"/></state>
        <state id="w2"><onentry>[w2]</onentry><transition event="on" target="w3"/></state>
        <final id="w3"/><transition event="pause" target="held"/>
        <transition event="done.state.work" target="end"/></state>
        <state id="held"><transition event="again" target="h"/></state>""",
        "w1 w2 w2", ("on", "pause", "again", "on"),
    ),
    "399": Case(
        """<state id="s"><transition event="a b" target="t"/></state>
        <state id="t"><transition event="b c" target="end"/></state>""",
        signals=("b", "c"),
    ),
    "403": Case(
        """<state id="s"><transition event="go" cond="payload.n == 2" target="end">[no]</transition>
        <transition event="go" cond="payload.n == 1" target="end">[yes]</transition>
        <transition event="go" target="end">[late]</transition></state>""",
        "yes", ("go",),
    ),
    "404": Case(
        """<state id="both"><onexit>[outer]</onexit><state id="in"><onexit>[in]</onexit>
        <state id="deep"><onexit>[deep]</onexit><transition event="never"/></state></state>
        <transition event="go" target="end">[way]</transition></state>""",
        "deep in outer way", ("go",),
    ),
    "406": Case(
        """<state id="s"><transition target="out">[way]</transition></state>
        <state id="out"><onentry>[out]</onentry><state id="in"><onentry>[in]</onentry>
        <final id="deep"><onentry>[deep]</onentry></final>
        <transition event="done.state.in" target="over"/></state><final id="over"/>
        <transition event="done.state.out" target="end"/></state>""",
        "way out in deep",
    ),
    "407": Case(
        """<state id="s"><onexit>[left]</onexit><transition target="end"/></state>""", "left"
    ),
    "413": Case(
        """<state id="one"><transition target="end"/></state>
        <state id="two"><onentry>[two]</onentry><transition target="one"/></state>""",
        "two", attributes='initial="two"',
    ),
    "415": Case(
        """<state id="s"><transition event="go" target="end"/></state>""", signals=("go",)
    ),
    "416": Case(
        """<state id="out"><state id="in"><final id="over"/>
        <transition event="done.state.in" target="next">[in]</transition></state>
        <final id="next"/><transition event="done.state.out" target="end">[out]</transition>
        </state>""",
        "in out",
    ),
    "419": Case(
        """<state id="s"><transition cond="payload.n == 1" target="end">[now]</transition>
        <transition target="t"/></state>
        <state id="t"><transition event="go" target="end"/></state>""",
        "now",
    ),
    "421": Case(
        """<state id="s"><onentry><raise event="own"/></onentry>
        <transition event="own" target="t"/></state>
        <state id="t"><transition event="sent" target="end">[sent]</transition></state>""",
        "sent", ("sent",),
    ),
    "423": Case(
        """<state id="s"><transition event="go" target="t"/></state>
        <state id="t"><transition event="noise" target="s"/>
        <transition event="on" target="end"/></state>""",
        signals=("noise", "noise", "go", "on"), path="s t end",
    ),
    "503": Case(
        """<state id="s"><onentry>[in]</onentry><onexit>[out]</onexit>
        <transition event="touch">[touch]</transition>
        <transition event="go" target="end"/></state>""",
        "in touch out", ("touch", "go"),
    ),
    "504": Case(
        """<state id="s"><onentry>[in]</onentry><onexit>[out]</onexit>
        <state id="deep"><onentry>[deepin]</onentry><onexit>[deepout]</onexit>
        <transition event="never"/></state>
        <transition event="again" target="s">[way]</transition>
        <transition event="go" target="end"/></state>""",
        "in deepin deepout out way in deepin deepout out", ("again", "go"),
    ),
    "506": Case(
        """<state id="s"><onexit>[out]</onexit><state id="deep"><onexit>[deep]</onexit>
        <transition event="never"/></state>
        <transition event="go" type="internal" target="end">[way]</transition></state>""",
        "deep out way", ("go",),
    ),
    "533": Case(
        """<state id="s"><onentry>[in]</onentry><onexit>[out]</onexit>
        <transition event="again" type="internal" target="s"/>
        <transition event="go" target="end"/></state>""",
        "in out in out", ("again", "go"),
    ),
    "158": Case(
        """<state id="s"><transition target="end">[a][b][c]</transition></state>""", "a b c"
    ),
    "159": Case(
        """<state id="s"><onentry>[a][boom][b]</onentry><transition event="error" target="mend"/>
        <transition event="go" target="end"/></state>
        <state id="mend"><transition target="end">[mended]</transition></state>""",
        "a mended",
    ),
    "185": Case(
        """<state id="s"><onentry><send event="late" delay="20ms"/></onentry>
        <transition event="late" target="end">[late]</transition>
        <transition event="go" target="end">[go]</transition></state>""",
        "late",
    ),
    "187": Case(
        """<state id="s"><onentry><send event="late" delay="3600s"/></onentry>
        <transition event="late" target="s">[late]</transition>
        <transition event="go" target="end"/></state>""",
        signals=("go",),
    ),
    "208": Case(
        """<state id="s"><onentry><send event="late" id="timer" delay="1s"/></onentry>
        <onexit><cancel sendid="timer"/></onexit>
        <transition event="late" target="s">[late]</transition>
        <transition event="go" target="end"/></state>""",
        signals=("go",),
    ),
    "309": Case(
        """<state id="s"><transition event="go" cond="payload.nothing" target="end">[wrong]
        </transition><transition event="go" target="end">[right]</transition></state>""",
        "right", ("go",),
    ),
    "580": Case(
        """<state id="s"><transition target="h"/></state>
        <state id="work"><history id="h" type="deep"/><state id="w1">
        <transition event="on" target="w2"/></state><final id="w2"/>
        <transition event="done.state.work" target="end"/>
        <transition event="error" target="end"/></state>""",
        signals=("on",), path="s h work/w1 work/w2 end",
    ),
}  # fmt: skip

_REGIONS = """<parallel id="both">
    <state id="left"><state id="l1"><transition event="l" target="l2">[l]</transition></state>
    <final id="l2"/></state>
    <state id="right"><state id="r1"><transition event="r" target="r2"/></state>
    <final id="r2"/></state>
    <transition event="done.state.both" target="{after}">[done]</transition></parallel>"""
CASES["570"] = Case(_REGIONS.format(after="end"), "l done", ("l", "r"))
CASES["417"] = Case(
    '<state id="out">' + _REGIONS.format(after="over") + '<final id="over"/>'
    '<transition event="done.state.out" target="end">[out]</transition></state>',
    "l done out", ("r", "l"),
)  # fmt: skip
