# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An embedded PostgreSQL."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from forktex_core.embedded.account import can_run, identity, server_user
from forktex_core.embedded.errors import EmbeddedError, StartError
from forktex_core.embedded.server import ENVIRONMENT, HOST, Server
from forktex_core.embedded.wheels import postgres_bindir

UNSAFE = {"fsync": "off", "full_page_writes": "off"}
SOCKET_PATH_LIMIT = 90


class EmbeddedPostgres(Server):
    """A PostgreSQL server of our own on a loopback port.

    ``path``: the folder to keep its data in (made when missing); None for one that is removed on closing.
    ``version``: 18 or 16, from the extra ``embedded``. ``bindir``: the programs of another installation instead
    (``pg_config --bindir``). ``settings``: server parameters as in ``postgresql.conf``, in force over ours.
    ``durable=False`` gives up surviving a power cut for speed (a killed process loses nothing either way).

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
        self._version = version
        self._given_bindir = Path(bindir) if bindir is not None else None
        self._durable = durable
        self._settings = dict(settings or {})
        self._bindir = Path()
        self._password = ""

    @property
    def url(self) -> str:
        """The address for SQLAlchemy and ``Flow``: ``postgresql+asyncpg://…``."""
        return self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)

    @property
    def dsn(self) -> str:
        """The address for asyncpg, psql and other drivers: ``postgresql://…``."""
        return self._address("postgres")

    async def create_database(self, name: str) -> str:
        """Make an empty database; its ``postgresql+asyncpg://`` address.

        Raises EmbeddedError when it exists or the name doesn't do."""
        import asyncpg

        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
        except asyncpg.PostgresError as exc:
            raise EmbeddedError(f"can't create the database {name!r}: {exc}") from exc
        finally:
            await connection.close()
        return self._address(name).replace("postgresql://", "postgresql+asyncpg://", 1)

    def _address(self, database: str) -> str:
        return f"postgresql://postgres:{self._password}@{HOST}:{self.port}/{database}"

    def _account(self) -> int | None:
        return server_user()

    def _stop_signals(self) -> list[tuple[int, float]]:
        """Fast shutdown, for an ephemeral one without a last checkpoint."""
        orderly = [(signal.SIGINT, 60.0)] if not self._ephemeral else []
        return [*orderly, (signal.SIGQUIT, 10.0)]

    def _prepare(self, folder: Path) -> None:
        self._bindir = self._given_bindir or postgres_bindir(self._version)
        if not can_run(self._bindir / "postgres"):
            raise StartError(
                self.name, f"{self._bindir / 'postgres'} can't be run by the server's user"
            )
        if not (folder / "data").exists():
            self._initialise(folder)
        self._refuse_other_version(folder / "data")
        self._password = (folder / "password").read_text()
        make_owned(folder / "socket")

    def _initialise(self, folder: Path) -> None:
        """Make the data folder, under another name until it is complete."""
        new = folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        make_owned(new)
        password = folder / "password"
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        give_away(password)
        done = subprocess.run(
            [self._bindir / "initdb", *self._initdb_options(), f"--pwfile={password}", "-D", new],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
            **identity(),
        )
        if done.returncode != 0:
            raise StartError(
                self.name, "initdb failed" + self._hint(done.stderr), done.stderr.strip()
            )
        new.rename(folder / "data")

    def _initdb_options(self) -> list[str]:
        unicode = "C.UTF-8" if sys.platform.startswith("linux") else "en_US.UTF-8"
        options = ["--username=postgres", "--encoding=UTF8", "--auth=password"]
        if self._program_version() >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            options += [f"--locale={unicode}"]
        return options + (["--no-sync"] if self._ephemeral or not self._durable else [])

    def _program_version(self) -> int:
        said = subprocess.run(
            [self._bindir / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            **identity(),
        ).stdout
        return int(said.split(") ")[1].split(".")[0].split()[0].rstrip("abcdelprtv"))

    def _hint(self, said: str) -> str:
        if "Permission denied" in said and server_user() is not None:
            return f" (run by root, PostgreSQL runs as 'nobody', who must be able to reach {self.path})"
        return ""

    def _refuse_other_version(self, data: Path) -> None:
        ours, theirs = self._program_version(), int((data / "PG_VERSION").read_text())
        if ours != theirs:
            raise StartError(
                self.name,
                f"{data} was made by PostgreSQL {theirs}, this is {ours}: "
                f"give version={theirs}, or bindir= of a PostgreSQL {theirs}",
            )

    def _command(self, folder: Path, port: int) -> list[str]:
        socket_folder = str(folder / "socket")
        settings: dict[str, str | int] = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": socket_folder
            if len(socket_folder) < SOCKET_PATH_LIMIT
            else "",
            "max_connections": 200,
            **({} if self._durable else UNSAFE),
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._bindir / "postgres"), "-D", str(folder / "data"), *options]

    def _is_ready(self, folder: Path, port: int, pid: int) -> bool:
        """What the server itself says in its lock file (its format is stable: pg_ctl reads it, too)."""
        try:
            lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _mend(self, folder: Path, said: str) -> bool:
        """After a crash: backends that still end hold the shared memory; a recycled process id looks like a server."""
        if "shared memory block" in said:
            return True
        lock = folder / "data" / "postmaster.pid"
        if 'lock file "postmaster.pid" already exists' not in said or not lock.exists():
            return False
        try:
            served = Path(f"/proc/{lock.read_text().split()[0]}/cwd").readlink() == folder / "data"
        except OSError:
            return False
        if not served:
            lock.unlink()
        return True


def make_owned(folder: Path) -> None:
    """A private folder of the server's user."""
    folder.mkdir(mode=0o700, exist_ok=True)
    give_away(folder)


def give_away(path: Path) -> None:
    """Make the server's user the owner, when it is another than we."""
    user = server_user()
    if user is not None:
        os.chown(path, user, user)
