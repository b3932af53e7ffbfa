# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The hash of a body: what changes it, what doesn't, and that each Python agrees on it."""

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktex_core.flow import DefinitionError, Flow, Graph, SourceNotFoundError
from forktex_core.flow.fingerprint import Fingerprint, Piece, fingerprint
from forktex_core.flow.source import ModuleSource

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_bodies")
BASE = (GOLDEN / "orders.txt").read_text()


def of(source: str, name: str = "order") -> Fingerprint:
    """The fingerprint of a function of a module's source."""
    module = ModuleSource(textwrap.dedent(source), "orders.py")
    [body] = [n for n in module.scopes if getattr(n, "name", None) == name]
    return fingerprint([Piece("body", module, body)])


BASE_HASH = of(BASE).hash


def changed(old: str, new: str, source: str = BASE) -> bool:
    """Whether replacing a piece of text changes the hash."""
    assert source.count(old) == 1, old
    before = BASE_HASH if source is BASE else of(source).hash
    return before != of(source.replace(old, new)).hash


UNCHANGED = {
    "comment": ("    await audit(ctx)\n", "    # a word\n    await audit(ctx)\n"),
    "docstring": ('"""What is done with an order."""', '"""Other words."""'),
    "no docstring": ('    """What is done with an order."""\n', ""),
    "quotes": ('"approved"', "'approved'"),
    "lines": ("charge(ctx, total, tip=1)", "charge(\n  ctx, total,\n   tip=1,\n )"),
    "parentheses": ("total + BASE_FEE", "(total) + (BASE_FEE)"),
    "annotation of a parameter": ("order_id: int", "order_id: 'dict[str, int]'"),
    "annotation of the result": ("-> dict:", "-> object:"),
    "annotation of a variable": ("receipt: str =", "receipt ="),
    "workflow's name and version": ('name="order", version=1', 'name="orders", version=7'),
    "a step's body": ("return str(cents + tip)", "return repr(cents) + cents_of(tip)"),
    "a step's parameters": ("cents: int, tip: int = 0", "cents: float, tip: int = 3, *more: int"),
    "a step's retries": ('name="pay", timeout=30', 'timeout=60, name="pay", transactional=True'),
    "a bare step's body": ("return round(cents)", "return cents_of(round(cents)) - 1"),
    "a lambda step": ("lambda: open('/etc/hostname').read()", "lambda: 'no such thing'"),
    "a step within the body": ("return note.upper()", "return note.lower()"),
    "what nobody refers to": ("UNRELATED = 1", "UNRELATED = 2"),
    "a function that only steps call": ("return value * 3", "return value * 4"),
    "a docstring of a helper": ('"""In cents."""', '"""In euros?"""'),
    "a type parameter": ("def largest[T](", "def largest("),
    "the Flow's options": ('Flow("postgresql://localhost/x")', 'Flow(URL, schema="other")'),
    "string concatenation": ('"a" "b"', '"ab"'),
    "f-string pieces": ("""f"{total}: " 'paid'""", """f'{total}: paid'"""),
    "pass": ("            pass\n", "            pass  # nothing\n            ...\n"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNCHANGED)
def test_what_replay_does_not_notice_leaves_the_hash(what: str) -> None:
    """None of these changes what a replay compares."""
    assert not changed(*UNCHANGED[what])


CHANGED = {
    "a call": ("await audit(ctx)", "await charge(ctx, 1)"),
    "an order": ("ctx.sleep(60)\n    await audit(ctx)", "audit(ctx)\n    await ctx.sleep(60)"),
    "a name": ("receipt: str =", "voucher: str ="),
    "a constant": ("ctx.sleep(60)", "ctx.sleep(61)"),
    "a constant's type": ("ctx.sleep(60)", "ctx.sleep(60.0)"),
    "a true one": ("urgent=True", "urgent=1"),
    "a default": ("order_id: int, urgent: bool = False", "order_id: int, urgent: bool = True"),
    "a default of a helper": ("amount, rate=2", "amount, rate=3"),
    "an operator": ("total + BASE_FEE", "total - BASE_FEE"),
    "a signal's name": ('"approved"', '"confirmed"'),
    "a removed await": ("await audit(ctx)", "audit(ctx)"),
    "a step's recorded name": ('name="pay"', 'name="charge"'),
    "a step that gets a name": ("step\nasync def audit", "step(name='x')\nasync def audit"),
    "a step that becomes a helper": ("@flow.step\nasync def audit", "async def audit"),
    "a helper": ("return amount * rate", "return amount + rate"),
    "a helper's helper": ("return int(value)", "return round(value)"),
    "a helper given by name": ("return -n", "return n"),
    "a module constant": ("BASE_FEE = 7", "BASE_FEE = 8"),
    "a method": ("return self.scale(amount) + 1", "return self.scale(amount) + 2"),
    "a method's method": ("return amount * 100", "return amount * 1000"),
    "a method of an unknown object": ("return len(self.lines)", "return len(self.lines) + 1"),
    "a field's order": ("    id: int\n    lines: list\n", "    lines: list\n    id: int\n"),
    "a closure": ("return base - cut", "return base + cut"),
    "an import": ("from prices import convert", "from taxes import convert"),
    "another decorator": ("@logged\n", ""),
    "a decorator's function": ("return wrapped(fn)", "return wrapped(fn, 1)"),
    "a child's name": ('name="ship"', 'name="shipping"'),
    "an inlined workflow": ("return await ctx.step(round, 1)", "return await ctx.step(round, 2)"),
    "a format": ("{total}: ", "{total:>5}: "),
    "a race": ("wait_signal", "wait_any_signal"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGED)
def test_what_replay_may_notice_changes_the_hash(what: str) -> None:
    """Each of these may change what a run asks its journal for."""
    assert changed(*CHANGED[what])


def test_a_renamed_body_is_the_same_body() -> None:
    """The function's own name is no part of it: the workflow's name is its key."""
    source = BASE.replace(
        "@flow.step\n    async def remark", "@flow.step(name='r')\n    async def remark"
    )
    renamed = source.replace("async def order(", "async def order_v1(")
    assert of(source).hash == of(renamed, "order_v1").hash


def test_a_step_in_a_renamed_function_has_another_name() -> None:
    """The journal holds qualified names, so the name around a step counts."""
    source = """
    def build():
        @flow.step
        async def charge(ctx): ...

        @flow.workflow()
        async def order(ctx):
            await charge(ctx)
    """
    assert changed("def build", "def make", source)
    named = source.replace("@flow.step", "@flow.step(name='charge')")
    assert not changed("def build", "def make", named)


# Each Python agrees


def _pythons() -> list[str]:
    found = [
        subprocess.run(
            [ROOT / "scripts" / "find-python", f"3.{minor}"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        for minor in (12, 13, 14)
    ]
    return [path for path in found if path]


# Only the pure files are loaded: these Pythons have none of our dependencies.
HASHES = """
import sys, types, json, pathlib
root, folder = sys.argv[1:]
for name in ("forktex_core", "forktex_core.flow"):
    package = types.ModuleType(name)
    package.__path__ = [root + "/src/" + name.replace(".", "/")]
    sys.modules[name] = package
from forktex_core.flow.fingerprint import Piece, fingerprint
from forktex_core.flow.source import ModuleSource
hashes = {}
for path in sorted(pathlib.Path(folder).glob("*.txt")):
    module = ModuleSource(path.read_text(encoding="utf-8"), path.name)
    for node in list(module.scopes):
        name = module.scopes[node].qualname
        if name and "<lambda>" not in name and "FunctionDef" in type(node).__name__:
            hashes[path.name + ":" + name] = fingerprint([Piece("body", module, node)]).hash
print(json.dumps({"version": sys.version_info[:2], "hashes": hashes}))
"""


def test_each_python_hashes_alike() -> None:
    """Every installed Python from 3.12 on gives the hashes that are stored."""
    stored = json.loads((GOLDEN / "hashes.json").read_text())
    versions = []
    for python in _pythons():
        done = subprocess.run(
            [python, "-c", HASHES, ROOT, GOLDEN], capture_output=True, text=True, check=True
        )
        answer = json.loads(done.stdout)
        versions.append(tuple(answer["version"]))
        assert answer["hashes"] == stored, f"Python {answer['version']}"
    assert sys.version_info[:2] in versions, "not even the Python that runs this was found"


# Mutations at random


@st.composite
def layouts(draw: st.DrawFn) -> str:
    """The base module, laid out anew: blank lines, comments, docstrings, annotations."""
    tree = ast.parse(BASE)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if draw(st.booleans()):
                node.body.insert(0, ast.Expr(ast.Constant(draw(st.text(max_size=5)))))
            node.returns = draw(st.sampled_from([None, ast.Name("int"), ast.Constant("str")]))
        elif isinstance(node, ast.arg):
            node.annotation = draw(st.sampled_from([None, ast.Name("int"), ast.Constant("X")]))
    lines = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
    laid = []
    for line in lines:
        laid += [""] * draw(st.integers(0, 1)) + ["# word"] * draw(st.integers(0, 1)) + [line]
    return "\n".join(laid) + "\n"


@settings(max_examples=25, deadline=None)
@given(layouts())
def test_layout_never_changes_the_hash(source: str) -> None:
    """Formatting, comments, docstrings and annotations of any kind leave the hash alone."""
    assert of(source).hash == BASE_HASH


def _spots(tree: ast.Module) -> list[ast.AST]:
    """Where a mutation must be noticed: constants, names, attributes and keywords of the body."""
    [body] = [n for n in tree.body if getattr(n, "name", "") == "order"]
    assert isinstance(body, ast.AsyncFunctionDef)
    skipped: set[ast.AST] = set()
    for node in ast.walk(body):
        hidden = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden += node.decorator_list if node is body else []
            hidden += [node] if node.name == "remark" else []
            hidden += node.body[:1] if ast.get_docstring(node) else []
        if isinstance(node, ast.Lambda):
            hidden.append(node)
        skipped |= {inner for top in hidden if top is not None for inner in ast.walk(top)}
    kinds = (ast.Constant, ast.Name, ast.Attribute, ast.keyword)
    return [n for n in ast.walk(body) if isinstance(n, kinds) and n not in skipped]


def _mutate(node: ast.AST) -> None:
    if isinstance(node, ast.Constant):
        node.value = f"{node.value}x" if isinstance(node.value, str) else (node.value or 0) + 1  # type: ignore[operator]
    elif isinstance(node, ast.Name):
        node.id += "_x"
    elif isinstance(node, ast.Attribute):
        node.attr += "_x"
    elif isinstance(node, ast.keyword):
        node.arg = f"{node.arg}_x"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_spots(ast.parse(BASE))) - 1))
def test_every_mutation_of_the_body_changes_the_hash(spot: int) -> None:
    """Whichever constant, name, attribute or keyword of the body changes: the hash does."""
    tree = ast.parse(BASE)
    _mutate(_spots(tree)[spot])
    assert of(ast.unparse(tree)).hash != BASE_HASH


# Live bodies


def _register(flow: Flow, *, factor: int) -> None:
    @flow.workflow(name="live", version=factor)
    async def live(ctx) -> None:
        await ctx.sleep(factor)


def test_a_registered_body_has_a_fingerprint() -> None:
    """Source is found by the function itself; two versions of one definition are alike."""
    flow = Flow("postgresql://localhost/x")
    _register(flow, factor=1)
    _register(flow, factor=2)
    first, second = list(flow._registry)
    assert first.fingerprint.hash == second.fingerprint.hash
    assert "await ctx.sleep(factor)" in "\n".join(first.fingerprint.source)


def test_no_source_is_said_so() -> None:
    """A body without source, or whose file is another by now, can't be hashed."""
    flow = Flow("postgresql://localhost/x")
    names: dict = {"flow": flow}
    code = compile("@flow.workflow()\nasync def body(ctx): ...", "<nowhere>", "exec")
    exec(code, names)
    with pytest.raises(SourceNotFoundError, match="no source for 'body': <nowhere> can't be read"):
        _ = names["body"].fingerprint


def test_an_edited_file_is_noticed(tmp_path: Path) -> None:
    """What stands in the file by now is not what runs: that is said instead of hashed."""
    file = tmp_path / "edited.py"
    file.write_text("async def body(ctx): ...\n")
    names: dict = {}
    exec(compile(file.read_text(), file, "exec"), names)
    workflow = Flow("postgresql://localhost/x").workflow()(names["body"])
    file.write_text("\n\nasync def body(ctx): ...\n")
    with pytest.raises(SourceNotFoundError, match=r"line 1 of .* has changed since"):
        _ = workflow.fingerprint


def test_graph_structure_and_functions_count() -> None:
    """States, transitions, guards and state functions of a graph are its body."""

    def build(**options: object) -> str:
        g = Graph("g", initial="a", max_transitions=options.get("most", 9))

        async def enter(ctx, payload):
            return payload

        async def leave(ctx, payload):
            return None

        g.state("a", manual=options.get("manual", False))(options.get("fn", enter))
        g.state("b", terminal=True)(leave)
        guards = [lambda p: p, lambda p: not p]
        g.transition("a", "b", on=options.get("on"), when=guards[options.get("guard", 0)])
        if options.get("more"):
            g.transition("a", "a")
        return g.as_workflow().fingerprint.hash

    async def other(ctx, payload):
        return payload * 2

    assert build() == build()
    variants = [{"most": 8}, {"manual": True}, {"fn": other}, {"guard": 1}, {"more": 1}]
    hashes = [build(**v) for v in variants] + [build(manual=True, on="go")]
    assert len({build(), *hashes}) == len(hashes) + 1


def test_a_graph_whose_guard_has_no_source_is_said_so() -> None:
    """A guard that is no function can't be hashed."""
    g = Graph("g", initial="a")

    @g.state("a")
    @g.state("b", terminal=True)
    async def enter(ctx, payload):
        return payload

    g.transition("a", "b", when=str.isdigit)
    try:
        workflow = g.as_workflow()
    except DefinitionError:  # a guard that isn't a Python function may be refused earlier
        return
    with pytest.raises(SourceNotFoundError, match="it is no function"):
        _ = workflow.fingerprint


def test_imported_steps_count_by_their_recorded_name(tmp_path: Path, monkeypatch) -> None:
    """A step of another module counts by the name in the journal, wherever it is imported from."""
    monkeypatch.syspath_prepend(tmp_path)
    hashes = []
    for number, name in enumerate(["pay", "pay", "charge"]):
        (tmp_path / f"steps_{number}.py").write_text(
            "from forktex_core.flow import Flow\nf = Flow('postgresql://h/d')\n"
            f"@f.step(name={name!r}, timeout={number + 1})\n"
            f"async def charge(ctx): return {number}\n"
        )
        file = tmp_path / f"bodies_{number}.py"
        file.write_text(
            f"from steps_{number} import charge\nasync def body(ctx):\n    await charge(ctx)\n"
        )
        names: dict = {}
        exec(compile(file.read_text(), file, "exec"), names)
        workflow = Flow("postgresql://h/d").workflow()(names["body"])
        hashes.append(workflow.fingerprint.hash)
    assert hashes[0] == hashes[1] != hashes[2]


# What a worker registers


def _shaped(flow: Flow, shape: str) -> None:
    if shape == "as it was":

        @flow.workflow(name="shaped")
        async def before(ctx) -> None:
            await ctx.sleep(0.001)
    else:

        @flow.workflow(name="shaped")
        async def after(ctx) -> None:
            await ctx.sleep(0.002)


async def test_bodies_are_hashed_when_a_worker_registers_them(
    postgres, schema: str, serving, sql, caplog
) -> None:
    """The database knows the hash of each body that is served; a worker that comes with another
    body under the same version says so, and one that has no source changes nothing.
    """

    async def serve(shape: str) -> list[str]:
        caplog.clear()
        flow = Flow(postgres.url, schema=schema)
        if shape == "without source":
            names: dict = {"flow": flow}
            text = "@flow.workflow(name='shaped')\nasync def body(ctx): ...\n"
            exec(compile(text, "<nowhere>", "exec"), names)
        else:
            _shaped(flow, shape)
        async with serving(flow):
            await flow.run("shaped", timeout=10)
        return [m for m in caplog.messages if "is not what it was" in m]

    assert await serve("as it was") == []
    stored = await sql.fetchval("SELECT body FROM definition")
    flow = Flow(postgres.url, schema=schema)
    _shaped(flow, "as it was")
    assert stored == flow.workflows[0].fingerprint.hash
    assert await serve("as it was") == []
    assert await serve("without source") == []
    assert await sql.fetchval("SELECT body FROM definition") == stored
    (said,) = await serve("changed")
    assert "workflow 'shaped' version 1 is not what it was" in said
    assert "version=2" in said
    assert await sql.fetchval("SELECT body FROM definition") != stored
