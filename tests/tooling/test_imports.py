# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What an import brings along, each looked at in a fresh interpreter."""

import json
import pkgutil
import subprocess
import sys

import pytest

import forktex_core

MODULES = sorted(module.name for module in pkgutil.iter_modules(forktex_core.__path__))
# Which siblings a module may load, and which drivers it must not.
LEANS_ON = {"data": {"db"}, "psql": {"db"}, "redis": {"cache"}}
NEVER_LOADS = {
    "cache": {"asyncpg", "sqlalchemy"},
    "data": {"redis"},
    "db": {"redis"},
    "embedded": {"sqlalchemy"},
    "flow": {"redis"},
    "psql": {"redis"},
    "queue": {"asyncpg", "sqlalchemy"},
    "redis": {"asyncpg", "sqlalchemy"},
    "storage": {"asyncpg", "redis", "sqlalchemy"},
    "vault": {"redis"},
}


def _loaded_by(statement: str) -> set[str]:
    """The modules that are there after a statement, in an interpreter of its own."""
    source = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_package_itself_loads_nothing() -> None:
    """`import forktex_core` brings none of its modules and nothing that pip installed."""
    loaded = _loaded_by("import forktex_core")
    ours = {name for name in loaded if name.startswith("forktex_core.")}
    assert ours == set()
    assert not loaded & {"asyncpg", "redis", "sqlalchemy", "pydantic", "click", "rich"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_brings_no_sibling_and_no_strange_driver(module: str) -> None:
    """One module's import loads no other module of ours, and no driver that isn't its own."""
    loaded = _loaded_by(f"import forktex_core.{module}")
    ours = {name.split(".")[1] for name in loaded if name.startswith("forktex_core.")}
    assert ours <= {module} | LEANS_ON.get(module, set())
    assert not loaded & NEVER_LOADS[module]


def test_every_module_is_held_to_something() -> None:
    """A module that arrives has to say which drivers it leaves out."""
    assert set(MODULES) <= set(NEVER_LOADS)
