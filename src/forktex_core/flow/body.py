# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From a live workflow or graph to its source: which functions make up its body, and where their
definitions stand.
"""

import ast
import inspect
import linecache
from collections.abc import Callable
from functools import partial
from typing import Any

from forktex_core.flow.errors import SourceNotFoundError
from forktex_core.flow.fingerprint import Fingerprint, Piece, fingerprint
from forktex_core.flow.source import Function, ModuleSource, parsed
from forktex_core.flow.workflow import Step, Workflow, function_name


def fingerprint_of(workflow: Workflow[Any, Any]) -> Fingerprint:
    """Return the fingerprint of a registered body.

    Raises:
        SourceNotFoundError: its source is not to be had.
    """
    try:
        return fingerprint(pieces_of(workflow))
    except RecursionError as error:
        raise SourceNotFoundError(repr(workflow.lane), "it is nested too deeply") from error


def pieces_of(workflow: Workflow[Any, Any]) -> list[Piece]:
    """Return what a body is made of: its one function, or the structure and functions of a graph.

    Raises:
        SourceNotFoundError: a function's source is not to be had.
    """
    graph = getattr(workflow, "graph", None)
    if graph is None:
        return [_piece("body", workflow.fn)]
    pieces = [Piece(f"begins in {graph.initial!r}, at most {graph.max_transitions} transitions")]
    for state in graph.states.values():
        traits = [t for t in ("manual", "terminal") if getattr(state, t)]
        pieces.append(_piece(" ".join([f"state {state.name!r}", *traits]), state.function))
        for way in state.transitions:
            title = f"from {way.source!r} to {way.target!r} on {way.on!r}"
            pieces.append(Piece(title) if way.when is None else _piece(f"{title} when", way.when))
    return pieces


def _piece(title: str, fn: Any) -> Piece:
    fn = _bare(fn)
    module, node = locate(fn)
    return Piece(title, module, node, partial(_describe, fn))


def _bare(fn: Any) -> Any:
    """Take off what wraps a function: decorators that say what they wrap, partials, methods."""
    while True:
        inner = inspect.unwrap(fn)
        inner = getattr(inner, "__func__", inner)
        inner = inner.func if isinstance(inner, partial) else inner
        if inner is fn:
            return fn
        fn = inner


def locate(fn: Callable[..., Any]) -> tuple[ModuleSource, Function]:
    """Return the module and the definition of a function.

    Raises:
        SourceNotFoundError: it has none, or its file has changed since it was imported.
    """
    name = function_name(fn)
    code = getattr(fn, "__code__", None)
    if code is None:
        raise SourceNotFoundError(repr(name), "it is no function")
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, getattr(fn, "__globals__", None)))
    if not text:
        raise SourceNotFoundError(repr(name), f"{code.co_filename} can't be read")
    try:
        module = parsed(text, code.co_filename)
    except (SyntaxError, ValueError) as error:
        raise SourceNotFoundError(
            repr(name), f"{code.co_filename} is no Python: {error}"
        ) from error
    found = module.functions(code.co_name, code.co_firstlineno)
    if len(found) > 1:
        found = [node for node in found if _holds(node, code)] or found
    if not found:
        raise SourceNotFoundError(
            repr(name),
            f"line {code.co_firstlineno} of {code.co_filename} has changed since it was imported",
        )
    return module, found[0]


def _holds(node: ast.AST, code: Any) -> bool:
    """Say whether code comes from a definition: several lambdas may stand in one line."""
    begin = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
    end = (getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0))
    places = [p for p in code.co_positions() if None not in p and p[2] != p[3]]
    return all(begin <= (p[0], p[2]) and (p[1], p[3]) <= end for p in places)


def _describe(fn: Any, name: str, as_step: bool) -> str | None:
    """Return what the journal calls the step that a name stands for in a function's module."""
    root, *attributes = name.split(".")
    value = _closure(fn).get(root, getattr(fn, "__globals__", {}).get(root))
    for attribute in attributes:
        value = inspect.getattr_static(value, attribute, None)
    if isinstance(value, staticmethod):
        value = value.__func__
    if isinstance(value, Step):
        return value.name
    return function_name(value) if as_step and callable(value) else None


def _closure(fn: Any) -> dict[str, Any]:
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False)
    return {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable of the enclosing function that has no value yet
        return False
