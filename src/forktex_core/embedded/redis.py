# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An embedded Redis (Valkey)."""

import os
import secrets
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, override

from forktex_core.embedded.server import HOST, Server
from forktex_core.embedded.wheels import valkey_program


class EmbeddedRedis(Server):
    """A Valkey server, which speaks Redis' protocol, on a loopback port.

    ``path``: the folder to keep its data in (made when missing; a log synced each second);
    None for one that keeps nothing. ``program``: another server's program instead of the extra's
    (``redis-server``). ``settings``: directives as in ``valkey.conf``, in force over ours.

    It has a random password, which the address carries.
    """

    name: ClassVar[str] = "Redis"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        program: str | os.PathLike[str] | None = None,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(path)
        self._given_program = Path(program) if program is not None else None
        self._settings = dict(settings or {})
        self._program = Path()
        self._password = ""

    @property
    def url(self) -> str:
        """The address: ``redis://…/0``."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    @override
    def _stop_signals(self) -> list[tuple[int, float]]:
        return [(signal.SIGTERM, 10.0)]

    @override
    def _prepare(self, folder: Path) -> None:
        self._program = self._given_program or valkey_program()
        password = folder / "password"
        if not password.exists():
            password.touch(mode=0o600)
            password.write_text(secrets.token_hex(16))
        self._password = password.read_text()
        (folder / "data").mkdir(mode=0o700, exist_ok=True)

    @override
    def _command(self, folder: Path, port: int) -> list[str]:
        directives: dict[str, str | int] = {
            "bind": HOST,
            "port": port,
            "dir": str(folder / "data"),
            "requirepass": self._password,
            "save": "",
            "appendonly": "no" if self._ephemeral else "yes",
            **self._settings,
        }
        configuration = folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            "".join(f'{name} "{value}"\n' for name, value in directives.items())
        )
        return [str(self._program), str(configuration)]

    @override
    def _is_ready(self, folder: Path, port: int, pid: int) -> bool:
        """It answers, and it is ours: another server on this port has another password."""
        try:
            with socket.create_connection((HOST, port), timeout=5) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False

    @override
    def _mend(self, folder: Path, said: str) -> bool:
        return False
