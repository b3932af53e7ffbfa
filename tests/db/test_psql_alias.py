# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`forktex_core.psql`, the former name of `db`; each in a process that has not imported it yet."""

import subprocess
import sys


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_former_name_holds_the_same_objects() -> None:
    """Every public name of `db` is there under `psql`, and is the very same object."""
    done = run(
        "-Wignore::DeprecationWarning",
        "-c",
        "from forktex_core import db, psql\n"
        "assert db.__all__\n"
        "assert all(getattr(psql, name) is getattr(db, name) for name in db.__all__)",
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_former_name_warns() -> None:
    """The warning names the new module and when the old name goes, and can be made an error."""
    done = run("-Werror::DeprecationWarning", "-c", "import forktex_core.psql")
    assert done.returncode != 0
    assert "DeprecationWarning: forktex_core.psql is now forktex_core.db" in done.stderr
    assert "1.0" in done.stderr
