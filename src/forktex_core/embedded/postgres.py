# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An embedded PostgreSQL."""

import ctypes
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, override

from forktex_core.embedded.account import give_away, make_owned, server_user
from forktex_core.embedded.errors import EmbeddedError, StartError
from forktex_core.embedded.server import HOST, Server
from forktex_core.embedded.wheels import postgres_bindir, postgres_version

UNSAFE = {"fsync": "off", "full_page_writes": "off"}
SOCKET_PATH_LIMIT = 90
BUILTIN_LOCALE_SINCE = 17
IPC_RMID = 0


class EmbeddedPostgres(Server):
    """A PostgreSQL server of our own on a loopback port.

    ``path``: the folder to keep its data in (made when missing); None for one that is removed on
    closing. ``version``: 18 or 16, from the extra ``embedded``. ``bindir``: the programs of another
    installation instead (``pg_config --bindir``). ``settings``: server parameters as in
    ``postgresql.conf``, in force over ours. ``durable=False`` gives up surviving a power cut for
    speed (a killed process loses nothing either way).

    Its only role, ``postgres``, has a random password, which the addresses carry.
    """

    name: ClassVar[str] = "PostgreSQL"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        version: int = 18,
        bindir: str | os.PathLike[str] | None = None,
        durable: bool = True,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(path)
        self._wanted = version
        self._given_bindir = Path(bindir) if bindir is not None else None
        self._durable = durable
        self._settings = dict(settings or {})
        self._bindir = Path()
        self._version = 0
        self._password = ""

    @property
    def url(self) -> str:
        """The address for SQLAlchemy and ``Flow``: ``postgresql+asyncpg://…``."""
        return self._address("postgres", "postgresql+asyncpg")

    @property
    def dsn(self) -> str:
        """The address for asyncpg, psql and other drivers: ``postgresql://…``."""
        return self._address("postgres", "postgresql")

    async def create_database(self, name: str) -> str:
        """Make an empty database; its ``postgresql+asyncpg://`` address.

        Raises EmbeddedError when it exists or the name won't do."""
        import asyncpg

        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
        except (asyncpg.PostgresError, ValueError) as exc:
            raise EmbeddedError(f"can't create the database {name!r}: {exc}") from exc
        finally:
            await connection.close()
        return self._address(name, "postgresql+asyncpg")

    def _address(self, database: str, scheme: str) -> str:
        port = self.port
        return f"{scheme}://postgres:{self._password}@{HOST}:{port}/{database}"

    @override
    def _account(self) -> int | None:
        return server_user()

    @override
    def _doors(self, folder: Path) -> list[Path]:
        names = ("data.new", "data", "socket", "password")
        return [folder / name for name in names if (folder / name).exists()]

    @override
    def _stop_signals(self) -> list[tuple[int, float]]:
        """Its "fast" shutdown, and the "immediate" one if that hangs."""
        return [(signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0)]

    @override
    def _end_signals(self) -> list[tuple[int, float]]:
        """Without a last checkpoint where nobody will read it."""
        return self._stop_signals()[1:] if self._ephemeral else self._stop_signals()

    @override
    def _prepare(self, folder: Path) -> None:
        self._find_programs()
        if not (folder / "data").exists():
            self._initialise(folder)
        self._refuse_other_version(folder / "data")
        self._password = (folder / "password").read_text()
        make_owned(folder / "socket")

    def _find_programs(self) -> None:
        self._bindir = self._given_bindir or postgres_bindir(self._wanted)
        version = postgres_version(self._bindir)
        if version is None:
            program = self._bindir / "postgres"
            who = "the user 'nobody'" if server_user() is not None else "this user"
            raise StartError(self.name, f"{program} is missing or can't be run by {who}")
        self._version = version

    def _initialise(self, folder: Path) -> None:
        """Make the data folder, under another name until it is complete."""
        new = folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        make_owned(new)
        self._choose_password(folder / "password")
        self._run(folder, [str(self._bindir / "initdb"), *self._initdb_options(folder)])
        new.rename(folder / "data")

    def _choose_password(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
        give_away(file)

    def _initdb_options(self, folder: Path) -> list[str]:
        options = [
            f"--pgdata={folder / 'data.new'}",
            "--username=postgres",
            f"--pwfile={folder / 'password'}",
            "--auth=password",
            "--encoding=UTF8",
        ]
        if self._version >= BUILTIN_LOCALE_SINCE:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            linux = sys.platform.startswith("linux")
            options += ["--locale=C.UTF-8" if linux else "--locale=en_US.UTF-8"]
        return options + (["--no-sync"] if self._ephemeral or not self._durable else [])

    def _refuse_other_version(self, data: Path) -> None:
        theirs = int((data / "PG_VERSION").read_text())
        if self._version != theirs:
            raise StartError(
                self.name,
                f"{data} was made by PostgreSQL {theirs}, this is {self._version}: "
                f"give version={theirs}, or bindir= of a PostgreSQL {theirs}",
            )

    @override
    def _command(self, folder: Path, port: int) -> list[str]:
        sockets = str(folder / "socket")
        settings: dict[str, str | int] = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": sockets if len(sockets) < SOCKET_PATH_LIMIT else "",
            "max_connections": 200,
            **({} if self._durable else UNSAFE),
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._bindir / "postgres"), "-D", str(folder / "data"), *options]

    @override
    def _is_ready(self, folder: Path, port: int, pid: int) -> bool:
        """What the server says in its lock file (a stable format, which pg_ctl reads, too)."""
        match lock_file(folder):
            case [first, _, _, _, _, _, _, status, *_]:
                return first == str(pid) and status.strip() == "ready"
        return False

    @override
    def _mend(self, folder: Path, said: str) -> bool:
        """After a crash, backends that still end hold shared memory, and a recycled process id
        in the lock file looks like a server."""
        if "shared memory block" in said:
            return True
        if 'lock file "postmaster.pid" already exists' not in said:
            return False
        if not serves(lock_file(folder), folder / "data"):
            (folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        return True

    @override
    def _after_kill(self, folder: Path) -> None:
        """Remove the shared memory segment that it left behind; its id is in the lock file."""
        match lock_file(folder):
            case [_, _, _, _, _, _, key_and_id, *_] if key_and_id.split():
                ctypes.CDLL(None).shmctl(int(key_and_id.split()[1]), IPC_RMID, None)


def lock_file(folder: Path) -> list[str]:
    """The lines of the server's lock file; none when there is none."""
    try:
        return (folder / "data" / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def serves(lock: list[str], data: Path) -> bool:
    """Whether the process that a lock file names has this data folder as its working directory."""
    try:
        return bool(lock) and Path(f"/proc/{lock[0]}/cwd").samefile(data)
    except OSError:
        return False
