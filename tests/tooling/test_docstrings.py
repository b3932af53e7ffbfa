# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What is public is documented, and every test says what it holds."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import forktex_core

TESTS = Path(__file__).parents[1]


FORMER_NAMES = {"psql", "redis"}  # the same objects as those of `db` and `cache`
MODULES = sorted({m.name for m in pkgutil.iter_modules(forktex_core.__path__)} - FORMER_NAMES)


def _undocumented(name: str, thing: object) -> Iterator[str]:
    """The name, and those of its public methods and properties, that say nothing of themselves."""
    if not callable(thing):
        return
    said = inspect.getdoc(thing) or ""
    if not said or said.startswith(f"{name.rpartition('.')[2]}("):  # a dataclass writes its own
        yield name
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        documented = isinstance(value, property | classmethod | staticmethod)
        if member.startswith("_") or not (inspect.isfunction(value) or documented):
            continue
        if not inspect.getdoc(getattr(thing, member)):
            yield f"{name}.{member}"


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    """`__all__` lists what is public; all of it, methods and properties too, is documented."""
    listed = importlib.import_module(f"forktex_core.{module}")
    missing = [
        line
        for name in listed.__all__
        for line in _undocumented(f"{module}.{name}", getattr(listed, name))
    ]
    assert missing == []


def test_every_test_has_a_docstring() -> None:
    """A test's docstring names the property that it holds."""
    missing = [
        f"{path.relative_to(TESTS)}: {node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert missing == []
