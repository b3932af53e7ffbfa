# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Every public name of `db` is used in its tests; what can fail is seen failing; one error tree."""

import inspect
import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

import forktex_core.db as public
from forktex_core.db import CursorPage, DBError, Health, Page, errors

TESTS = "\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
ERRORS = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, Exception) and each.__module__ == errors.__name__
]
ROOTS = {"DBError", "ScopeError", "QueryError", "ConstraintError"}  # caught, never raised


@pytest.mark.parametrize("name", sorted(set(public.__all__) - ROOTS))
def test_every_public_name_is_tested(name: str) -> None:
    """Somewhere in these files it is used."""
    assert len(re.findall(rf"\b{name}\b", TESTS.replace(f'"{name}"', ""))) > 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_seen_raised(error: type[Exception]) -> None:
    """It is public, of the one tree, in the tree's drawing, and a test provokes it."""
    name = error.__name__
    assert getattr(public, name) is error
    assert issubclass(error, DBError)
    assert re.search(rf"^[\s│├└─]*{name}\b", str(errors.__doc__), re.MULTILINE)
    raised = rf"raises\(\s*{name}\b|raises\(\({name}|except {name}\b|\b{name}\)?, (r?\"|id)"
    assert name in ROOTS or re.search(raised, TESTS) or f"({name}," in TESTS


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        (Page([], 0, 1, 10), "total"),
        (CursorPage([], None, None), "next"),
        (Health(True, 0.1, None, 0, 0), "ok"),
        (public.EngineOptions(), "pool_size"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_results_are_values(value: Any, attribute: str) -> None:
    """What was answered can't be changed afterwards."""
    with pytest.raises(FrozenInstanceError):
        setattr(value, attribute, 1)


@pytest.mark.parametrize(
    ("root", "below"),
    [
        (public.ScopeError, 3),
        (public.QueryError, 4),
        (public.ConstraintError, 4),
        (public.ConfigurationError, 2),
    ],
)
def test_a_root_catches_its_kind(root: type[Exception], below: int) -> None:
    """Who wants to answer all refusals of one kind alike catches their root."""
    assert sum(issubclass(each, root) for each in ERRORS) == 1 + below


def test_an_unknown_setting_is_refused() -> None:
    """A misspelt setting is Python's error at the call."""
    with pytest.raises(TypeError, match="pool_sise"):
        public.EngineOptions(pool_sise=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="pool_sise"):
        public.init_engine("postgresql://localhost/x", pool_sise=5)  # type: ignore[call-arg]
