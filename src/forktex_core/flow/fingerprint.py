# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The hash of a workflow's body over its normalised syntax tree. Pure: source text in, hash out.

What counts: the body and, transitively, what it refers to in its own module: functions, methods,
closures, classes, assigned values. What something imported stands for, but not what it does.

What doesn't: comments, docstrings, formatting, annotations; the name of the body itself (a workflow
is known by its name and version, which are the key and no part of the hash); and the bodies of
steps. Of a step only the name counts that the journal holds. Retries, timeouts and transactions
change how a step is executed, not what replay compares.

Methods are resolved by their names when it isn't known what they are called on: ``order.total()``
counts the ``total`` of every class of the module. Too much is an alarm that a glance at the diff
settles; too little would be a run that breaks.

The tree is written down by a serialiser of our own, in which absent fields and empty lists don't
appear: ``ast.dump`` and ``ast.unparse`` differ between Python versions.
"""

import ast
import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from forktex_core.flow.source import (
    REGISTERS,
    Binding,
    Function,
    ModuleSource,
    Reference,
    Scope,
    argument_role,
    is_marked,
    is_step_definition,
    keyword_name,
    marked_name,
    references,
    steps_only,
)

# Says what the journal calls the step that ``name.attribute`` is at run time; None when it is none.
type Describe = Callable[[str, bool], str | None]

_SCHEME = "1"  # of the hash; a new one makes every manifest stale


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a body is, as far as replay is concerned.

    Attributes:
        hash: equal for bodies that do the same on replay.
        source: the normalised source lines behind it, for people: it may look different on another
            version of Python.
        parts: what the body refers to in its module, by qualified name.
    """

    hash: str
    source: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A function with a title, or a title alone, which counts as it is.

    Args:
        title: what it is.
        module: the module that the function stands in.
        function: its definition.
        describe: knows what imported steps are called.
    """

    title: str
    module: ModuleSource | None = None
    function: Function | None = None
    describe: Describe = lambda _name, _is_step: None


def fingerprint(pieces: Iterable[Piece]) -> Fingerprint:
    """Return the fingerprint of a body: of one function, or of all that a graph is made of."""
    digest = [f"forktex-flow {_SCHEME}"]
    source: list[str] = []
    parts: list[str] = []
    for piece in pieces:
        digest.append(piece.title)
        source.append(f"# {piece.title}")
        if piece.module is not None and piece.function is not None:
            reach = _Reach(piece.module, piece.function, piece.describe)
            digest += reach.digest()
            source += reach.source()
            parts += [part for part in reach.parts if part not in parts]
    text = "\n".join(digest).encode()
    return Fingerprint(hashlib.sha256(text).hexdigest(), tuple(source), tuple(parts))


def reached(piece: Piece) -> list[ast.AST]:
    """Return the function of a piece, and the functions and classes of its module behind it."""
    if piece.module is None or piece.function is None:
        return []
    parts = _Reach(piece.module, piece.function, piece.describe).parts.values()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [piece.function, *(n for nodes in parts for n in nodes if isinstance(n, kinds))]


class _Reach:
    """A body, and all that it refers to in its module."""

    def __init__(self, module: ModuleSource, body: Function, describe: Describe) -> None:
        self._module, self._body, self._describe = module, body, describe
        self._context = body.args.args[0].arg if body.args.args else None
        self.parts: dict[str, list[ast.AST]] = {}
        self.names: dict[str, str] = {}
        self._queue: list[ast.AST] = [body]
        while self._queue:
            node = self._queue.pop()
            for reference in references(module, node):
                self._follow(reference, node)
        self.parts = dict(sorted(self.parts.items()))
        self.names = dict(sorted(self.names.items()))

    def _follow(self, reference: Reference, user: ast.AST) -> None:
        if reference.name is None:
            self._add_methods(reference.attributes)
            return
        found = reference.scope.lookup(reference.name)
        if found is None:
            return
        scope, bindings = found
        if scope.within(user) or bindings[0].kind == "parameter":
            if reference.name != self._context:
                self._add_methods(reference.attributes)
        elif bindings[0].kind == "import":
            self._note_import(reference, bindings)
        else:
            self._add(reference, scope, bindings)
            if bindings[0].kind == "value":
                self._add_methods(reference.attributes)

    def _note_import(self, reference: Reference, bindings: list[Binding]) -> None:
        text = ".".join((reference.name or "", *reference.attributes))
        step = self._describe(text, reference.role == "step")
        if step is not None:
            self.names[text] = f"step {step}"
            return
        origin = sorted({b.dotted for b in bindings})
        self.names[reference.name or ""] = f"import {' or '.join(origin)}"

    def _add(self, reference: Reference, scope: Scope, bindings: list[Binding]) -> None:
        name = reference.name or ""
        known = self._named(reference, scope, bindings[-1])
        if known is not None:
            self.names[name] = known
            return
        nodes = [n for b in bindings for n in _counted(b)]
        self._add_part(scope.inner_name(name), nodes)

    def _add_part(self, key: str, nodes: list[ast.AST]) -> None:
        if nodes and key not in self.parts and self._body not in nodes:
            self.parts[key] = nodes
            self._queue += nodes

    def _add_methods(self, attributes: tuple[str, ...]) -> None:
        for attribute in attributes:
            for node in self._module.methods(attribute):
                if not is_step_definition(node):
                    self._add_part(self._module.scopes[node].qualname, [node])

    def _named(self, reference: Reference, scope: Scope, binding: Binding) -> str | None:
        """Return what counts instead of a definition that doesn't run as part of the body."""
        node = binding.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            qualname = scope.inner_name(node.name)
            is_workflow = any(is_marked(d, "workflow") for d in node.decorator_list)
            if is_workflow and reference.role != "call":
                return f"workflow {marked_name(node, 'workflow') or node.name}"
            if reference.role == "step" or is_step_definition(node):
                return f"step {marked_name(node, 'step') or qualname}"
        value = getattr(node, "value", None)
        if binding.kind == "value" and isinstance(value, ast.Call):
            return _named_value(value)
        return None

    def digest(self) -> list[str]:
        """Return the lines that are hashed."""
        body = _normal(self._module, self._body)
        if isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef):
            body.name = ""
        lines = [serialise(body)]
        for key, nodes in self.parts.items():
            lines += [key, *(serialise(_normal(self._module, n)) for n in nodes)]
        return lines + [f"{name}: {what}" for name, what in self.names.items()]

    def source(self) -> list[str]:
        """Return the normalised source, for people."""
        lines = _lines(_normal(self._module, self._body))
        for key, nodes in self.parts.items():
            lines.append(f"# {key}")
            for node in nodes:
                lines += _lines(_normal(self._module, node))
        return lines + [f"# {name}: {what}" for name, what in self.names.items()]


def _named_value(value: ast.Call) -> str | None:
    """Return what ``name = flow.step(…)`` counts as, or the Flow itself, whose options don't."""
    call = value
    while isinstance(call.func, ast.Call):
        call = call.func
    if argument_role(value) == "step" and isinstance(call.func, ast.Attribute):
        function = value.args[0] if value.args else None
        name = keyword_name(call)
        return f"step {name or (ast.unparse(function) if function is not None else '')}"
    made = call.func.attr if isinstance(call.func, ast.Attribute) else call.func
    if made == "Flow" or (isinstance(made, ast.Name) and made.id == "Flow"):
        return "a Flow"
    return None


def _counted(binding: Binding) -> list[ast.AST]:
    """Return what of a binding says which value a name has."""
    node = binding.node
    if isinstance(node, ast.For | ast.AsyncFor):
        return [node.iter]
    if isinstance(node, ast.With | ast.AsyncWith):
        return [item.context_expr for item in node.items]
    return [] if isinstance(node, ast.ExceptHandler | ast.Delete | ast.MatchAs) else [node]


# The normal form


def _normal(module: ModuleSource, node: ast.AST) -> ast.AST:
    normal: ast.AST = _Normaliser(module, steps_only(node)).top(copy.deepcopy(node))
    return normal


def _lines(node: ast.AST) -> list[str]:
    return ast.unparse(ast.fix_missing_locations(node)).splitlines()


class _Normaliser(ast.NodeTransformer):
    def __init__(self, module: ModuleSource, only_steps: frozenset[str]) -> None:
        self._module, self._only_steps = module, only_steps

    def top(self, node: ast.AST) -> ast.AST:
        """Normalise a definition that counts, whatever it is decorated with."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [d for d in node.decorator_list if not is_marked(d, *REGISTERS)]
            node.decorator_list = kept
            return self._plain_function(node)
        result: ast.AST = self.visit(node)
        return result

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if not is_step_definition(node) and node.name not in self._only_steps:
            return self._plain_function(node)
        qualname = self._module.qualnames[node.lineno, node.col_offset]
        name = marked_name(node, "step") or qualname
        node.args = ast.arguments([], [], None, [], [], None, [])
        node.decorator_list, node.returns, node.type_params = [], None, []
        node.body = [ast.Return(ast.Constant(f"step {name}"))]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's spelling

    def _plain_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns, node.type_params = None, []
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.type_params = []
        # The fields of a dataclass are annotations; their names and their order count.
        for number, part in enumerate(node.body):
            if isinstance(part, ast.AnnAssign) and part.value is None:
                node.body[number] = ast.Expr(part.target)
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_TypeAlias(self, node: ast.TypeAlias) -> None:
        """A type says nothing about what runs."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Docstrings, and other values that nobody takes."""
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        """Does nothing."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        node.kind = None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if argument_role(node) == "step" and node.args and isinstance(node.args[0], ast.Lambda):
            node.args[0] = ast.Name("lambda_step", ast.Load())
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Join what the parser of one version leaves in pieces and that of another doesn't."""
        self.generic_visit(node)
        node.values = _joined(node.values)
        if len(node.values) == 1 and isinstance(node.values[0], ast.Constant):
            return ast.copy_location(node.values[0], node)
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.format_spec, ast.Constant):
            node.format_spec = ast.JoinedStr([node.format_spec])
        if isinstance(node.format_spec, ast.JoinedStr) and not node.format_spec.values:
            node.format_spec = None
        return node


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    joined: list[ast.expr] = []
    for value in values:
        for piece in value.values if isinstance(value, ast.JoinedStr) else [value]:
            last = joined[-1] if joined else None
            if isinstance(piece, ast.Constant) and isinstance(last, ast.Constant):
                joined[-1] = ast.copy_location(ast.Constant(f"{last.value!s}{piece.value!s}"), last)
            elif not (isinstance(piece, ast.Constant) and piece.value == ""):
                joined.append(piece)
    return joined


# Fields that say nothing about what runs. ``str`` is the text inside of a template's braces.
_LEFT_OUT = frozenset(
    {"annotation", "ctx", "kind", "returns", "str", "type_comment", "type_params"}
)
# Fields that one version leaves out and another sets to zero.
_ZERO = frozenset({"is_async", "level", "simple"})


def serialise(node: object) -> str:
    """Write a syntax tree down, alike on every version of Python that has its constructs."""
    if isinstance(node, ast.Constant):
        return f"({type(node.value).__name__} {_constant(node.value)})"
    if isinstance(node, ast.AST):
        fields = [(name, getattr(node, name, None)) for name in sorted(_fields(node))]
        inner = [
            f" {name}={serialise(value)}" for name, value in fields if not _absent(name, value)
        ]
        return f"({type(node).__name__}{''.join(inner)})"
    if isinstance(node, list):
        return f"[{', '.join(map(serialise, node))}]"
    return _constant(node)


def _fields(node: ast.AST) -> list[str]:
    return [name for name in node._fields if name not in _LEFT_OUT]


def _absent(name: str, value: object) -> bool:
    return value is None or value == [] or (name in _ZERO and not value)


def _constant(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return ascii(value)
