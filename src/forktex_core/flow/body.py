# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From a live workflow or graph to its source: which functions make up its body, and where their
definitions stand.
"""

import ast
import inspect
import linecache
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from forktex_core.flow.errors import SourceNotFoundError
from forktex_core.flow.fingerprint import Fingerprint, Piece, fingerprint
from forktex_core.flow.graph.condition import Condition
from forktex_core.flow.graph.definition import Graph, State, Transition
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
    return list(_graph_pieces(graph, ""))


def _graph_pieces(graph: Graph, where: str) -> Iterator[Piece]:
    """Yield what a graph is made of, and the graphs inside of its states."""
    traits = (graph.unhandled, function_name(graph.payload) if graph.payload else "any payload")
    begin = f"begins in {graph.initial!r}, at most {graph.max_transitions} transitions"
    yield Piece(f"{where}{begin}, {', '.join(traits)}")
    yield from _functions(where, merge=graph.merge)
    leaving = graph.leaving()
    for state in graph.states.values():
        title = f"{where}state {state.name!r}{_traits(state, _STATE_TRAITS)}"
        if state.retries.max_attempts != 1:
            title += f" attempts={state.retries.max_attempts}"
        yield Piece(title) if state.function is None else _piece(title, state.function)
        yield from _functions(f"{title} ", entry=state.entry, exit=state.exit, merge=state.merge)
        for way in leaving[state.name]:
            yield from _way_pieces(way, where)
        for name, region in state.regions.items():
            yield from _graph_pieces(region, f"{where}{state.name}/{name}/ ")


def _way_pieces(way: Transition, where: str) -> Iterator[Piece]:
    title = f"{where}from {way.source!r} to {way.target!r} on {way.on!r}"
    title += _traits(way, _WAY_TRAITS)
    if way.when is None:
        yield Piece(title)
    elif isinstance(way.when, Condition):
        yield Piece(f"{title} when {way.when.source}")
    else:
        yield _piece(f"{title} when", way.when)
    yield from _functions(f"{title} ", action=way.action, merge=way.merge)


_STATE_TRAITS = ("manual", "terminal", "timeout", "on_error", "unhandled", "join", "history_of")
_WAY_TRAITS = ("after", "priority", "internal")


def _traits(part: State | Transition, names: tuple[str, ...]) -> str:
    found = {name: getattr(part, name) for name in names}
    return "".join(f" {name}={value!r}" for name, value in found.items() if value)


def _functions(title: str, **functions: Any) -> Iterator[Piece]:
    for name, fn in functions.items():
        if fn is not None:
            yield _piece(f"{title}{name}", fn)


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
