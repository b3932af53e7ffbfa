# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The lint of bodies: what it finds, what it leaves alone, and how a line is silenced."""

import textwrap

import pytest

from forktex_core.flow.fingerprint import Piece, reached
from forktex_core.flow.lint import Finding, lint_definition
from forktex_core.flow.source import ModuleSource

HEAD = """\
import asyncio, datetime, os, os.path, random, sys, threading, time, uuid, socket, subprocess
import datetime as d
from datetime import datetime as dt, date
from time import monotonic as tick
from pathlib import Path
from uuid import uuid4, uuid5
import httpx
client = httpx.Client()
CACHE = {}
TABLE = {"a": 1}
count = 0
def bump():
    global count
    count += 1
flow = Flow("x")
@flow.step
async def step(ctx, value=None):
    return time.time(), random.random(), open("x")
def bare():
    return time.time()
"""


def check(body: str, rest: str = "") -> list[Finding]:
    """What the lint finds in a body with these lines."""
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    source = f"{HEAD}{rest}\nasync def body(ctx, box):\n{lines}\n"
    module = ModuleSource(source, "m.py")
    [node] = [n for n in module.scopes if getattr(n, "name", None) == "body"]
    piece = Piece("body", module, node)
    return [f for n in reached(piece) for f in lint_definition(module, n)]


FOUND = {
    "time.time()": "wall-clock",
    "tick()": "wall-clock",
    "dt.now()": "wall-clock",
    "d.datetime.now(d.UTC)": "wall-clock",
    "datetime.datetime.utcnow()": "wall-clock",
    "date.today()": "wall-clock",
    "time.sleep(1)": "blocking",
    "random.choice([1])": "random",
    "random.Random()": "random",
    "os.urandom(4)": "random",
    "uuid4()": "uuid",
    "uuid.uuid1()": "uuid",
    "open('x')": "io",
    "print('x')": "io",
    "client.get('x')": "io",
    "httpx.get('x')": "io",
    "Path('x').read_text()": "io",
    "subprocess.run(['x'])": "io",
    "socket.create_connection(('h', 1))": "io",
    "os.listdir('.')": "io",
    "os.path.exists('x')": "io",
    "os.environ['X']": "environment",
    "os.environ.get('X')": "environment",
    "os.getenv('X')": "environment",
    "os.getpid()": "environment",
    "sys.argv": "environment",
    "hash('x')": "environment",
    "id(box)": "environment",
    "threading.Thread(target=box)": "threads",
    "await asyncio.to_thread(box)": "threads",
    "asyncio.get_running_loop().run_in_executor(None, box)": "threads",
    "for x in {1, 2}: box(x)": "unordered",
    "for x in set(box): box(x)": "unordered",
    "[x for x in frozenset(box)]": "unordered",
    "{x: 1 for x in {1, 2}}": "unordered",
    "list(set(box))": "unordered",
    "', '.join({'a'})": "unordered",
    "asyncio.gather(*{1, 2})": "unordered",
    "set(box).pop()": "unordered",
    "for x in set(box) | {1}: box(x)": "unordered",
    "for x in {1}.union(box): box(x)": "unordered",
    "names = set(box)\nfor name in names: await step(ctx, name)": "unordered",
    "done, late = await asyncio.wait(box)\nfor t in done: t.result()": "unordered",
    "for t in asyncio.as_completed(box): await t": "unordered",
    "global count\ncount = 1": "global-state",
    "count": "global-state",
    "CACHE[1] = 2": "global-state",
    "CACHE.update(a=1)": "global-state",
    "del CACHE[1]": "global-state",
    "os.flag = 1": "global-state",
    "await ctx.step(step, time.time())": "wall-clock",
    "await step(ctx, uuid4())": "uuid",
    "x = lambda: time.time()": "wall-clock",
    "def inner(x=time.time()): ...": "wall-clock",
}


@pytest.mark.parametrize("body", FOUND)
def test_what_replay_cannot_survive_is_found(body: str) -> None:
    """Each is found, once, with its line and a mend, under whatever name it was imported."""
    rules = {f.rule for f in check(body)}
    assert FOUND[body] in rules
    assert rules <= {FOUND[body], "global-state" if "count" in body else ""}
    finding = next(f for f in check(body) if f.rule == FOUND[body])
    first = HEAD.count("\n") + 3
    assert first <= finding.line <= first + body.count("\n")
    assert str(finding).startswith(f"m.py:{finding.line}:{finding.column}: [{finding.rule}] ")


FINE = [
    "await step(ctx, 1)",
    "await ctx.step(bare)",
    "await ctx.step(time.time)",
    "await ctx.step(lambda: (time.time(), open('x')))",
    "@flow.step\nasync def own(ctx): return time.time()\nawait own(ctx)",
    "def own(): return time.time()\nawait ctx.step(own)",
    "ctx.now(), ctx.random().random(), ctx.uuid4()",
    "random.Random(5).random()",
    "rng = random.Random(5)\nrng.random()",
    "uuid5(box, 'x')",
    "datetime.datetime(2026, 1, 1), dt.fromisoformat(box), d.timedelta(days=1)",
    "os.path.join('a', 'b')",
    "asyncio.get_running_loop().time()",
    "await asyncio.sleep(1)\nawait asyncio.gather(box, box)",
    "for x in sorted({1, 2}): box(x)",
    "for x in [1, 2]: box(x)",
    "sum(x for x in {1, 2})",
    "{x for x in {1, 2}}",
    "len({1, 2}), 1 in {1, 2}, max(set(box))",
    "done, late = await asyncio.wait(box, return_when=asyncio.FIRST_COMPLETED)\nfor t in done: t()",
    "done, late = await asyncio.wait(box)\nfor t in late: t.cancel()",
    "names = set(box)\nnames = sorted(names)\nfor name in names: box(name)",
    "a = b = 1\na = b\nb = a\nfor x in a: box(x)",
    "TABLE['a'], CACHE.get(1)",
    "mine = {}\nmine[1] = 2\nmine.update(a=1)",
    "box.append(1)\nbox.field = 1",
    "total = 0\ndef add():\n    nonlocal total\n    total += 1\nadd()",
    "def time(): return 1\ntime()",
    "random = box\nrandom.choice([1])",
]


@pytest.mark.parametrize("body", FINE)
def test_what_replay_survives_is_left_alone(body: str) -> None:
    """Steps may do anything; the run's own clock, chance and loop are what bodies should use."""
    assert check(body) == []


def test_helpers_are_looked_at_as_well() -> None:
    """What a body calls in its module counts: functions, methods of classes, and theirs in turn."""
    rest = """
def first(): return second()
def second(): return dt.now()
class Box:
    def open(self): return uuid4()
def nobody(): return time.time()
"""
    found = check("first()\nBox().open()", rest)
    assert {(f.rule, f.what) for f in found} == {
        ("wall-clock", "datetime.datetime.now()"),
        ("uuid", "uuid.uuid4()"),
    }


def test_nonlocal_of_an_enclosing_function_is_shared_state() -> None:
    """A body that is a closure must not change what its runs would share."""
    source = """
def build():
    total = 0
    async def body(ctx):
        nonlocal total
        total += 1
"""
    module = ModuleSource(source, "m.py")
    [node] = [n for n in module.scopes if getattr(n, "name", None) == "body"]
    assert [(f.rule, f.what) for f in lint_definition(module, node)] == [
        ("global-state", "nonlocal total")
    ]


def test_a_line_is_silenced_by_a_comment_that_names_the_rule() -> None:
    """The comment may stand on any line of the expression; it silences just the rule it names."""
    assert check("x = time.time()  # flow: allow[wall-clock] only logged") == []
    assert check("x = time.time(  # flow: allow[ uuid, wall-clock ]\n)") == []
    assert check("x = '# flow: allow[wall-clock]', time.time()") != []
    [left] = check("x = time.time()  # flow: allow[uuid]")
    assert left.rule == "wall-clock"
    [wrong] = check("x = 1  # flow: allow[wallclock]")
    assert (wrong.rule, wrong.what) == ("allow", "allow[wallclock]")
    assert "wall-clock" in wrong.mend
