# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The owner's end of the guard (see guard.py for the protocol between them)."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, cast

from forktex_core.embedded.errors import EmbeddedError

GUARD = Path(__file__).with_name("guard.py")


class GuardProcess:
    """A running guard; its methods block and are safe to call from several threads."""

    def __init__(
        self, folder: Path | None, signals: list[tuple[int, float]], lock: int | None
    ) -> None:
        orders = json.dumps({"folder": str(folder) if folder else None, "signals": signals})
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), orders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,
        )
        self._commands = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Have the guard do one thing and wait for its answer.

        Raises EmbeddedError when the guard is gone."""
        with self._turn:
            try:
                self._commands.write(json.dumps(command).encode() + b"\n")
                self._commands.flush()
                answer: dict[str, Any] = json.loads(self._answers.readline())
            except (OSError, ValueError) as exc:
                raise EmbeddedError(
                    f"the guard process {self._process.pid} of an embedded server is gone: "
                    "somebody killed it; close this server and start another"
                ) from exc
        return answer

    def close(self) -> None:
        """Let the guard stop the server and tidy up; returns when it has."""
        with contextlib.suppress(BrokenPipeError):
            self._commands.close()
        self._answers.close()
        self._process.wait()
