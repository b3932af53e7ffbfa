# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The example, which composes the vault with `forktex_core.db`."""

import subprocess
import sys
from pathlib import Path


def test_the_example_runs_on_the_base_model_of_db(database) -> None:
    """The seed's model and rotation, on `BaseDBModel` and `get_session`."""
    program = Path(__file__).parents[2] / "examples" / "vault_credentials.py"
    done = subprocess.run(
        [sys.executable, program, database.url],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "rotated 1, ssh_key_id 12345\n"
