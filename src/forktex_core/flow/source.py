# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The source of a module as fingerprint.py and lint.py see it: who binds which name, and what a
definition refers to.

Names are looked up as Python does it: from the scope of the reference outwards, leaving out
classes. Nothing is imported or executed. Comprehensions count to the function around them, which is
as exact as our questions are.
"""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

type Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
type Role = Literal["call", "step", "child", "plain"]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# Methods of FlowContext (and decorators) whose first argument is, or becomes, a step.
STEP_TAKERS = frozenset({"step", "map", "on_rollback"})
CHILD_TAKERS = frozenset({"start_child", "run_child"})
# Decorators that register a function and leave what it does alone.
REGISTERS = ("workflow", "step", "state")


@dataclass(slots=True, eq=False)
class Binding:
    """One statement that gives a name its value. ``dotted`` is what an import stands for."""

    kind: Literal["import", "function", "class", "value", "parameter"]
    node: ast.AST
    dotted: str = ""


@dataclass(slots=True, eq=False)
class Scope:
    """The names of a module, a class or a function."""

    node: ast.AST
    parent: "Scope | None"
    qualname: str = ""
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    declared_global: set[str] = field(default_factory=set)
    declared_nonlocal: set[str] = field(default_factory=set)

    @property
    def is_class(self) -> bool:
        """Whether names in here are invisible to functions in here."""
        return isinstance(self.node, ast.ClassDef)

    def inner_name(self, name: str) -> str:
        """Return the qualified name of a definition in this scope."""
        if isinstance(self.node, ast.Module):
            return name
        return f"{self.qualname}.{name}" if self.is_class else f"{self.qualname}.<locals>.{name}"

    def lookup(self, name: str) -> "tuple[Scope, list[Binding]] | None":
        """Return the scope that binds a name as seen from here, and how; None for a builtin."""
        here: Scope | None = self
        while here is not None:
            seen = here is self or not here.is_class
            outside = name in here.declared_global and not isinstance(here.node, ast.Module)
            if seen and not outside and name in here.bindings:
                return here, here.bindings[name]
            here = here.parent
        return None

    def within(self, node: ast.AST) -> bool:
        """Say whether this scope belongs to a definition or lies inside of it."""
        here: Scope | None = self
        while here is not None:
            if here.node is node:
                return True
            here = here.parent
        return False


class ModuleSource:
    """A module, parsed, with the scopes of all its definitions.

    Args:
        text: the source.
        filename: what messages call it.

    Raises:
        SyntaxError: the text is no Python.
    """

    def __init__(self, text: str, filename: str) -> None:
        self.text, self.filename = text, filename
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its author has seen them
            self.tree = ast.parse(text, filename)
        builder = _ScopeBuilder(self.tree)
        self.scopes: dict[ast.AST, Scope] = builder.scopes
        self.module: Scope = self.scopes[self.tree]
        self.reassigned: frozenset[str] = frozenset(builder.reassigned)
        self.qualnames: dict[tuple[int, int], str] = {
            (node.lineno, node.col_offset): scope.qualname
            for node, scope in self.scopes.items()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }

    def functions(self, name: str, first_line: int) -> list[Function]:
        """Return the definitions of that name whose code begins in a line, decorators included."""
        return [
            node
            for node in self.scopes
            if isinstance(node, FUNCTIONS)
            and (name == "<lambda>" if isinstance(node, ast.Lambda) else node.name == name)
            and _first_line(node) == first_line
        ]

    def methods(self, name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Return every method of that name in the classes of the module's top level."""
        for scope in self.scopes.values():
            if scope.is_class and scope.parent is self.module:
                for binding in scope.bindings.get(name, []):
                    if isinstance(binding.node, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield binding.node

    def defining_scope(self, node: ast.AST) -> Scope:
        """Return the scope that a definition stands in."""
        own = self.scopes.get(node)
        return self.module if own is None or own.parent is None else own.parent


@lru_cache(maxsize=32)
def parsed(text: str, filename: str) -> ModuleSource:
    """Return a ModuleSource; the same text is parsed once."""
    return ModuleSource(text, filename)


def _first_line(node: Function) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(d.lineno for d in decorators)])


class _ScopeBuilder(ast.NodeVisitor):
    def __init__(self, tree: ast.Module) -> None:
        self._here = Scope(tree, None)
        self._statement: ast.AST = tree
        self._module = self._here
        self.scopes: dict[ast.AST, Scope] = {tree: self._here}
        self.reassigned: set[str] = set()
        self.generic_visit(tree)

    def _bind(self, name: str, binding: Binding) -> None:
        if name in self._here.declared_global:
            self.reassigned.add(name)
        elif name not in self._here.declared_nonlocal:
            self._here.bindings.setdefault(name, []).append(binding)

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.stmt):
            self._statement = node
        return super().visit(node)

    def _enter(self, node: ast.AST, name: str, body: list[Any], arguments: Any = None) -> None:
        outer = self._here
        self._here = Scope(node, outer, outer.inner_name(name))
        self.scopes[node] = self._here
        for argument in [] if arguments is None else _all_arguments(arguments):
            self._bind(argument.arg, Binding("parameter", argument))
        for statement in body:
            self.visit(statement)
        self._here = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._bind(node.name, Binding("function", node))
        for outside in (*node.decorator_list, node.args):
            self.visit(outside)
        self._enter(node, node.name, node.body, node.args)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's spelling

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._enter(node, "<lambda>", [node.body], node.args)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name, Binding("class", node))
        for outside in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(outside)
        self._enter(node, node.name, node.body)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.partition(".")[0]
            dotted = alias.name if alias.asname else root
            self._bind(alias.asname or root, Binding("import", node, dotted))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        origin = "." * node.level + (node.module or "")
        for alias in node.names:
            dotted = f"{origin}{'' if origin.endswith('.') else '.'}{alias.name}"
            self._bind(alias.asname or alias.name, Binding("import", node, dotted))

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id, Binding("value", self._statement))

    def visit_Global(self, node: ast.Global) -> None:
        self._here.declared_global.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._here.declared_nonlocal.update(node.names)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name, Binding("value", node))
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name, Binding("value", node))
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs  # noqa: N815 - ast's spelling


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    extra = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


# References


@dataclass(slots=True)
class Reference:
    """A use of ``name.attribute.attribute``; ``name`` is None when the chain begins with an
    expression. ``role`` says what it is used for: the called thing, a step's or a child's function.
    """

    name: str | None
    attributes: tuple[str, ...]
    scope: Scope
    role: Role


def references(module: ModuleSource, node: ast.AST) -> list[Reference]:
    """Return what a definition or statement refers to; annotations and step bodies are left out."""
    return _References(module, node).found


class BodyVisitor(ast.NodeVisitor):
    """Walks what runs as part of a body: no annotations, no step bodies; knows the scope."""

    def __init__(self, module: ModuleSource, node: ast.AST) -> None:
        self.module, self.node = module, node
        self.scope = module.defining_scope(node)
        self._steps_only = steps_only(node)

    def walk(self) -> None:
        """Visit the definition."""
        if isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in self.node.decorator_list:
                if not is_marked(decorator, *REGISTERS):
                    self.visit(decorator)
            self._function(self.node)
        else:
            self.visit(self.node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._inside(node, node.body if isinstance(node.body, list) else [node.body])

    def _inside(self, node: ast.AST, body: list[Any]) -> None:
        outer, self.scope = self.scope, self.module.scopes[node]
        for part in body:
            self.visit(part)
        self.scope = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if not (is_step_definition(node) or node.name in self._steps_only):
            for decorator in node.decorator_list:
                self.visit(decorator)
            self._function(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's spelling

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for outside in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(outside)
        self._inside(node, node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_TypeAlias(self, node: ast.TypeAlias) -> None:
        """A type says nothing about what runs."""


class _References(BodyVisitor):
    def __init__(self, module: ModuleSource, node: ast.AST) -> None:
        super().__init__(module, node)
        self.found: list[Reference] = []
        self.walk()

    def visit_Call(self, node: ast.Call) -> None:
        self._use(node.func, "call")
        rest: list[ast.expr] = list(node.args)
        role = argument_role(node)
        if rest and role != "plain":
            first = rest.pop(0)
            if not (role == "step" and isinstance(first, ast.Lambda)):
                self._use(first, role)
        for argument in (*rest, *(k.value for k in node.keywords)):
            self.visit(argument)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._use(node, "plain")

    def visit_Name(self, node: ast.Name) -> None:
        self._use(node, "plain")

    def _use(self, node: ast.expr, role: Role) -> None:
        base, attributes = chain(node)
        if isinstance(base, ast.Name):
            self.found.append(Reference(base.id, attributes, self.scope, role))
        else:
            if attributes:
                self.found.append(Reference(None, attributes, self.scope, role))
            self.visit(base)


def chain(node: ast.expr) -> tuple[ast.expr, tuple[str, ...]]:
    """Split ``a.b.c`` into what it begins with and the attributes."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node, tuple(reversed(attributes))


def argument_role(call: ast.Call) -> Role:
    """Return what the first argument of a call is used for."""
    # @flow.step(name=...)(fn) is called twice
    taker = call.func.func if isinstance(call.func, ast.Call) else call.func
    if isinstance(taker, ast.Attribute) and taker.attr in STEP_TAKERS:
        return "step"
    if isinstance(taker, ast.Attribute) and taker.attr in CHILD_TAKERS:
        return "child"
    return "plain"


def is_marked(decorator: ast.expr, *words: str) -> bool:
    """Say whether a decorator is ``@….word`` or ``@….word(…)``."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Attribute) and target.attr in words


def steps_only(node: ast.AST) -> frozenset[str]:
    """Return the names that a definition uses as the functions of steps, and for nothing else."""
    as_steps = [
        call.args[0].id
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and argument_role(call) == "step"
        and call.args and isinstance(call.args[0], ast.Name)
    ]  # fmt: skip
    if not as_steps:
        return frozenset()
    used = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    return frozenset(name for name in as_steps if used.count(name) == as_steps.count(name))


def is_step_definition(node: ast.AST) -> bool:
    """Say whether a definition is decorated as a step."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        is_marked(d, "step") for d in node.decorator_list
    )


def marked_name(node: ast.FunctionDef | ast.AsyncFunctionDef, word: str) -> str | None:
    """Return the ``name=`` that the decorator ``@….word(name=…)`` of a definition gives."""
    for decorator in node.decorator_list:
        if is_marked(decorator, word) and isinstance(decorator, ast.Call):
            return keyword_name(decorator)
    return None


def keyword_name(call: ast.Call) -> str | None:
    """Return the keyword ``name`` of a call as text: its value, or its source when computed."""
    for keyword in call.keywords:
        if keyword.arg == "name":
            value = keyword.value
            return str(value.value) if isinstance(value, ast.Constant) else ast.unparse(value)
    return None


def dotted_name(node: ast.expr, scope: Scope) -> str | None:
    """Return the full name of an imported or built-in thing that an expression stands for.

    What such a thing returns stands for it as well: ``client = httpx.Client()`` makes
    ``client.get`` an ``httpx.Client.get``, and so is ``httpx.Client().get``.
    """
    base, attributes = chain(node)
    if isinstance(base, ast.Call) and attributes:
        made_by = dotted_name(base.func, scope)
        return None if made_by is None else ".".join((made_by, *attributes))
    if not isinstance(base, ast.Name):
        return None
    found = scope.lookup(base.id)
    if found is None:
        return ".".join(("builtins", base.id, *attributes))
    origin = _origin(*found)
    return None if origin is None else ".".join((origin, *attributes))


def _origin(scope: Scope, bindings: list[Binding]) -> str | None:
    for binding in bindings:
        if binding.kind == "import":
            return binding.dotted
        value = getattr(binding.node, "value", None)
        if binding.kind == "value" and isinstance(value, ast.Call):
            base, attributes = chain(value.func)
            made_by = scope.lookup(base.id) if isinstance(base, ast.Name) else None
            if made_by is not None and made_by[1][0].kind == "import":
                return ".".join((made_by[1][0].dotted, *attributes))
    return None
