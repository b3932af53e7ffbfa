# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Other processes that own servers, and what is left of them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
START = """
import sys
from forktex_core.embedded import *
with {server} as server:
    print(server.path, server.pid, flush=True)
    {then}
"""


@contextmanager
def owner(
    server: str, then: str = "sys.stdin.read()"
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A Python process that runs a server and then does something; and the server's folder."""
    code = START.format(server=server, then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            folder, _, _ = process.stdout.readline().rpartition(" ")
            yield process, Path(folder)
        finally:
            process.kill()


def processes_of(folder: Path) -> list[str]:
    """The living processes that were started with this folder or work in it (not the dead ones
    whose parent has not looked yet)."""
    found = []
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            where = str((process / "cwd").readlink()) if command else ""
            if str(folder) in command or where.startswith(str(folder)):
                found.append(f"{process.name}: {command}")
    return found
