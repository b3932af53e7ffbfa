# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Finds in bodies what replay can't survive: clocks, chance, I/O, environment, unordered sets,
state that runs share, threads. Steps may do all of that and are left out.

It looks at the same definitions as the fingerprint does: the body and what it refers to in its own
module. A line is silenced by a comment on it::

    started = time.time()  # flow: allow[wall-clock] only logged

Waiting with ``asyncio.wait(..., return_when=FIRST_COMPLETED)`` is fine in a body: the run's loop
delivers one completion at a time, in the journal's order.
"""

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from forktex_core.flow.body import pieces_of
from forktex_core.flow.fingerprint import reached
from forktex_core.flow.lint_rules import RULES, rule_of_call, rule_of_value
from forktex_core.flow.source import (
    BodyVisitor,
    ModuleSource,
    Scope,
    argument_role,
    chain,
    dotted_name,
)
from forktex_core.flow.workflow import Workflow

_ALLOW = re.compile(r"#\s*flow:\s*allow\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in a body that a replay would do otherwise.

    Attributes:
        rule: a key of lint_rules.RULES, or ``allow`` for a silencing comment with an unknown rule.
        file, line, column: where, counted from 1.
        what: the thing itself, as it is written or by its full name.
        problem: what goes wrong.
        mend: what to write instead.
    """

    rule: str
    file: str
    line: int
    column: int
    what: str
    problem: str
    mend: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place}: [{self.rule}] {self.what}: {self.problem}; {self.mend}"


def lint(workflow: Workflow[Any, Any]) -> list[Finding]:
    """Return what is wrong with a body and the helpers that it calls in its module.

    Raises:
        SourceNotFoundError: the source is not to be had.
    """
    found: dict[tuple[str, int, str], Finding] = {}
    for piece in pieces_of(workflow):
        for node in reached(piece):
            assert piece.module is not None
            for finding in lint_definition(piece.module, node):
                found.setdefault((finding.file, finding.line, finding.rule), finding)
    return sorted(found.values(), key=lambda f: (f.file, f.line, f.column))


def lint_definition(module: ModuleSource, node: ast.AST) -> list[Finding]:
    """Return what is wrong with one function or class of a module."""
    linter = _Linter(module, node)
    linter.walk()
    return linter.found + _unknown_rules(module, node)


@lru_cache(maxsize=32)
def _allowed(text: str) -> dict[int, frozenset[str]]:
    """Return the rules that comments silence, by line."""
    allowed = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (match := _ALLOW.search(token.string)):
            names = (name.strip() for name in match[1].split(","))
            allowed[token.start[0]] = frozenset(filter(None, names))
    return allowed


def _unknown_rules(module: ModuleSource, node: ast.AST) -> list[Finding]:
    begin, end = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    mend = f"the rules are {', '.join(RULES)}"
    return [
        Finding("allow", module.filename, line, 1, f"allow[{name}]", "there is no such rule", mend)
        for line, names in _allowed(module.text).items()
        if begin <= line <= end
        for name in sorted(names - RULES.keys())
    ]


# Callables that don't care for the order of what they are given, and those that keep it.
_ORDER_FREE = frozenset(_name for _name in "sorted set frozenset sum min max any all len".split())
_ORDERED = frozenset("list tuple enumerate zip map filter iter next reversed dict".split())
_SET_METHODS = frozenset("union intersection difference symmetric_difference copy".split())
_MUTATING = frozenset(
    """append appendleft add update pop popleft popitem clear extend insert remove discard
    setdefault sort reverse""".split()
)


class _Linter(BodyVisitor):
    def __init__(self, module: ModuleSource, node: ast.AST) -> None:
        super().__init__(module, node)
        self.found: list[Finding] = []
        self._order_free: set[ast.AST] = set()
        self._asked: set[str] = set()

    def _report(self, rule: str, node: ast.expr | ast.stmt, what: str, problem: str = "") -> None:
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        allowed = _allowed(self.module.text)
        if not any(rule in allowed.get(line, ()) for line in lines):
            about = RULES[rule]
            self.found.append(
                Finding(
                    rule, self.module.filename, node.lineno, node.col_offset + 1, what,
                    problem or about.problem, about.mend,
                )
            )  # fmt: skip

    # Calls and values by name

    def visit_Call(self, node: ast.Call) -> None:
        name = dotted_name(node.func, self.scope)
        rule = None if name is None else rule_of_call(name)
        if rule is not None and name is not None:
            self._report(rule, node.func, f"{name.removeprefix('builtins.')}()")
        elif name == "random.Random" and not node.args:
            self._report("random", node.func, "random.Random() without a seed")
        self._check_method(node)
        self._check_consumer(node, (name or "").removeprefix("builtins."))
        first_is_step = argument_role(node) == "step" and bool(node.args)
        arguments = node.args[1:] if first_is_step else node.args
        for part in (node.func, *arguments, *(k.value for k in node.keywords)):
            self.visit(part)
        if first_is_step and not isinstance(node.args[0], ast.Lambda | ast.Name | ast.Attribute):
            self.visit(node.args[0])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not self._check_value(node):
            self._check_store(node)
            self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._check_value(node)
            found = self.scope.lookup(node.id)
            if found and found[0].parent is None and node.id in self.module.reassigned:
                problem = "a function of this module gives it other values"
                self._report("global-state", node, f"reading {node.id!r}", problem)

    def _check_value(self, node: ast.expr) -> bool:
        name = dotted_name(node, self.scope)
        rule = None if name is None else rule_of_value(name)
        if rule is not None and name is not None:
            self._report(rule, node, name)
        return rule is not None

    # State that outlives the run

    def visit_Global(self, node: ast.Global) -> None:
        self._report("global-state", node, f"global {', '.join(node.names)}")

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        outside = [name for name in node.names if self._is_outside(name, self.scope.parent)]
        if outside:
            self._report("global-state", node, f"nonlocal {', '.join(outside)}")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._check_store(node)
        self.generic_visit(node)

    def _check_store(self, node: ast.Attribute | ast.Subscript) -> None:
        base: ast.expr = node
        while isinstance(base, ast.Attribute | ast.Subscript):
            base = base.value
        if isinstance(node.ctx, ast.Load) or not isinstance(base, ast.Name):
            return
        if self._is_outside(base.id, self.scope):
            self._report("global-state", node, f"changing {base.id!r}")

    def _check_method(self, node: ast.Call) -> None:
        base, attributes = chain(node.func)
        if attributes[-1:] == ("run_in_executor",):
            self._report("threads", node.func, "run_in_executor()")
        if not attributes or not isinstance(base, ast.Name):
            return
        if attributes[-1] in _MUTATING and self._is_outside(base.id, self.scope):
            found = self.scope.lookup(base.id)
            if found is not None and found[1][0].kind == "value":
                self._report("global-state", node.func, f"changing {base.id!r}")

    def _is_outside(self, name: str, scope: Scope | None) -> bool:
        found = None if scope is None else scope.lookup(name)
        return found is not None and not found[0].within(self.node)

    # Sets

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        only_cancels = all(
            isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)
            and chain(s.value.func)[1][-1:] == ("cancel",)
            for s in node.body
        )  # fmt: skip
        if not only_cancels:
            self._check_order(node.iter)
        self.generic_visit(node)

    visit_AsyncFor = visit_For  # noqa: N815 - ast's spelling

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> None:
        if node not in self._order_free:
            for generator in node.generators:
                self._check_order(generator.iter)
        self.generic_visit(node)

    visit_GeneratorExp = visit_DictComp = visit_ListComp  # noqa: N815 - ast's spelling

    def visit_Starred(self, node: ast.Starred) -> None:
        self._check_order(node.value)
        self.generic_visit(node)

    def _check_consumer(self, node: ast.Call, name: str) -> None:
        if name in _ORDER_FREE:
            self._order_free.update(node.args)
        joins = isinstance(node.func, ast.Attribute) and node.func.attr == "join"
        if name in _ORDERED or joins:
            for argument in node.args:
                self._check_order(argument)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args:
            self._check_order(node.func.value, popped=True)

    def _check_order(self, node: ast.expr, *, popped: bool = False) -> None:
        if self._is_set(node, self.scope, popped):
            self._report("unordered", node, f"the order of {ast.unparse(node)}")

    def _is_set(self, node: ast.expr, scope: Scope, popped: bool = False) -> bool:
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.BinOp):
            return self._is_set(node.left, scope) or self._is_set(node.right, scope)
        if isinstance(node, ast.Call):
            if dotted_name(node.func, scope) in ("builtins.set", "builtins.frozenset"):
                return True
            func = node.func
            return (
                isinstance(func, ast.Attribute)
                and func.attr in _SET_METHODS
                and self._is_set(func.value, scope)
            )
        return isinstance(node, ast.Name) and self._names_set(node.id, scope)

    def _names_set(self, name: str, scope: Scope) -> bool:
        found = scope.lookup(name)
        if found is None or name in self._asked:  # two names may be made of each other
            return False
        self._asked.add(name)
        answer = all(self._binds_set(b.node, found[0]) for b in found[1])
        self._asked.discard(name)
        return answer

    def _binds_set(self, node: ast.AST, scope: Scope) -> bool:
        value = getattr(node, "value", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or value is None:
            return False
        if isinstance(value, ast.Await) and isinstance(value.value, ast.Call):
            waits = dotted_name(value.value.func, scope) == "asyncio.wait"
            return waits and "FIRST_COMPLETED" not in ast.unparse(value)
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        return isinstance(target, ast.Name) and self._is_set(value, scope)
