# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The demo's worker processes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

NAMES = ("Ada", "Bob")
PATIENCE = 8.0


class Crew:
    """Workers in processes of their own; all gone when the block ends."""

    def __init__(self, database_url: str, logs: Path) -> None:
        self.environment = {**os.environ, "DEPLOY_DATABASE_URL": database_url}
        self.logs = logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    async def __aenter__(self) -> Self:
        for name in NAMES:
            self.hire(name)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(asyncio.to_thread(dismiss, p) for p in self.processes.values()))

    def hire(self, name: str) -> None:
        """Start a worker, in a session of its own: Ctrl-C is for the demo, which dismisses it."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "examples.deploy.worker", name],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """SIGKILL: no handler runs, nothing is flushed, nobody is told."""
        self.processes[name].kill()

    def failures(self) -> list[str]:
        """What workers that ended by themselves had to say."""
        return [
            f"worker {name} ended with {process.returncode}:\n"
            + (self.logs / f"{name}.log").read_text(errors="replace")[-2000:]
            for name, process in self.processes.items()
            if process.poll() not in {None, -9}
        ]


def dismiss(process: subprocess.Popen[bytes]) -> None:
    """End a worker in order, or by force when it takes too long."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
