# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A "server": a folder, a loopback port, and the process of an application there.

Every function may be repeated after a crash at any point. Whether the application runs is told by a
lock on the folder that its process inherits: the kernel releases it when the process ends, and only
then, so two attempts can never start two servers, whoever was killed in between.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from pydantic import BaseModel

HOST = "127.0.0.1"
POLL = 0.02
LAUNCH = Path(__file__).with_name("launch.py")


class ServerError(Exception):
    """The application does not run as it should."""


class Server(BaseModel):
    """A provisioned server; ``instance`` tells its application from any other on the machine."""

    folder: Path
    port: int
    instance: str

    @property
    def url(self) -> str:
        """Where the application answers."""
        return f"http://{HOST}:{self.port}"


def provision(folder: Path, instance: str) -> Server:
    """Make a server: a folder with a port of its own.

    Repeated: the server is described in its folder, and the first description stays."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    description = folder / "server.json"
    if not description.exists():
        new = folder / f"server.{os.getpid()}"
        new.write_text(json.dumps({"port": free_port(), "instance": instance}))
        with contextlib.suppress(FileExistsError):
            description.hardlink_to(new)
        new.unlink()
    return Server(folder=folder, **json.loads(description.read_text()))


def start(
    server: Server, release: Path, main: str, environment: dict[str, str], patience: float
) -> int:
    """Start the application and wait until it answers; its process id.

    Repeated: when the lock is taken, the process of a former attempt runs (or still warms up), and
    is only waited for."""
    lock = os.open(server.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        launch(server, release / main, environment, lock)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
    state = wait_until_up(server, "/healthz", patience)
    return int(state["pid"])


def launch(server: Server, main: Path, environment: dict[str, str], lock: int) -> None:
    """Start the process, which outlives us and holds the lock on."""
    with (server.folder / "log").open("ab") as log:
        subprocess.run(
            [sys.executable, LAUNCH, server.folder, main],
            cwd=main.parent,
            env={
                **environment,
                "PORT": str(server.port),
                "INSTANCE": server.instance,
                "DATA": str(server.folder / "data"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
            check=True,
        )


def wait_until_up(server: Server, path: str, patience: float) -> dict[str, Any]:
    """What the application says about its health, once it is ours that answers.

    Repeated: only asks. Raises ServerError when it has ended, or after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        state = ask(server.url + path)
        if state is not None and state.get("instance") == server.instance:
            return state
        if state is None and not runs(server):
            raise ServerError(f"the application ended:\n{log_of(server)}")
        time.sleep(POLL)
    raise ServerError(f"{server.url}{path} was not well within {patience} s:\n{log_of(server)}")


def ask(url: str) -> dict[str, Any] | None:
    """The JSON object at an address; None when nothing answers well."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            answer = json.load(response)
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def switch(current: Path, server: Server) -> None:
    """Point the link ``current`` at a server, in one step for whoever follows it.

    Repeated: the same link again."""
    new = current.with_name(f"{current.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(server.folder, target_is_directory=True)
    new.replace(current)


def runs(server: Server) -> bool:
    """Whether a process of this server lives: it holds the lock."""
    try:
        lock = os.open(server.folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def launches(folder: Path) -> list[int]:
    """The process ids of all starts of this server so far, as the started processes wrote them."""
    log = folder / "launches"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def stop(folder: Path, patience: float = 5.0) -> None:
    """End the application of a server, if it runs; SIGKILL after ``patience`` seconds."""
    if not (folder / "server.json").exists():
        return
    server = Server(folder=folder, **json.loads((folder / "server.json").read_text()))
    kill_at = time.monotonic() + patience
    while runs(server):
        number = signal.SIGTERM if time.monotonic() < kill_at else signal.SIGKILL
        for pid in launches(folder)[-1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(POLL)


def log_of(server: Server) -> str:
    """The end of what the application wrote."""
    log = server.folder / "log"
    return log.read_text(errors="replace")[-2000:].strip() if log.exists() else ""


def free_port() -> int:
    """A port of the loopback interface that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
