# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The process that stands between an embedded server and its owner; run as a script, never imported by the owner.

Protocol. The owner starts this script with its own process id and a line of JSON
(``folder`` to remove at the end or null, ``signals`` to stop the server with) as arguments and holds
the only writing end of our standard input. Each line that it writes is a command, each is answered
by one line on standard output. When the input ends or our parent is no longer the owner (a forked
child of the owner may keep the pipe open), the owner has closed us or is dead, and we can't and need
not tell which: stop the server, remove the folder, leave. A lock file's descriptor that was handed to us stays open
as long as we live, so a folder is locked exactly as long as a server may be using it.

The server is our child, so its process id can't be reused before we have waited for it. Should we be
killed ourselves, the kernel stops the server (Linux only).

Only the standard library, and only its light parts: this has to be up in some ten milliseconds.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

PR_SET_PDEATHSIG = 1
OWNER_CHECK = 0.25
REMOVAL_TRIES = 100


def die_with_parent(number: int) -> Callable[[], None] | None:
    """What a child runs before exec so that the kernel signals it when this process dies."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, number)


def children_of(pid: int) -> list[int]:
    """The direct children of a process (empty where /proc doesn't tell)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Guard:
    def __init__(self, folder: str | None, signals: list[tuple[int, float]]) -> None:
        self.folder = folder
        self.signals = signals
        self.server: subprocess.Popen[bytes] | None = None

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        verb = command.pop("do")
        if verb == "start":
            return self.start(**command)
        if verb == "stop":
            return self.stop()
        if verb == "kill":
            return self.kill()
        return self.status()

    def status(self) -> dict[str, Any]:
        return {"code": self.server.poll() if self.server else 0}

    def start(
        self, argv: list[str], log: str, env: dict[str, str], user: int | None
    ) -> dict[str, Any]:
        identity: dict[str, Any] = (
            {} if user is None else {"user": user, "group": user, "extra_groups": []}
        )
        with open(log, "ab") as output:
            try:
                self.server = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=env,
                    start_new_session=True,
                    preexec_fn=die_with_parent(self.signals[0][0]),
                    **identity,
                )
            except OSError as error:
                return {"error": str(error)}
        return {"pid": self.server.pid}

    def stop(self) -> dict[str, Any]:
        """Ask in the given order, each with its patience in seconds; SIGKILL in the end."""
        for number, patience in self.signals:
            if self.server is None or self.server.poll() is not None:
                break
            send(self.server.pid, number)
            try:
                self.server.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        return self.kill()

    def kill(self) -> dict[str, Any]:
        """End the server and its children as a power cut would, at one moment: frozen first, so that none is born meanwhile."""
        if self.server is not None and self.server.poll() is None:
            send(self.server.pid, signal.SIGSTOP)
            for pid in (*children_of(self.server.pid), self.server.pid):
                send(pid, signal.SIGKILL)
            self.server.wait()
        return self.status()

    def end(self) -> None:
        self.stop()
        for _ in range(REMOVAL_TRIES):
            if self.folder is None or not os.path.lexists(self.folder):
                break
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.01)


def commands(owner: int, idle: Callable[[], object]) -> Iterator[dict[str, Any]]:
    """The owner's commands until it closes the pipe or dies."""
    pending = b""
    while os.getppid() == owner:
        if not select.select([0], [], [], OWNER_CHECK)[0]:
            idle()
            continue
        received = os.read(0, 65536)
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        yield from map(json.loads, lines)


def leave(*_: object) -> None:
    raise SystemExit(0)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    guard = Guard(**json.loads(sys.argv[2]))
    try:
        for command in commands(int(sys.argv[1]), guard.status):
            os.write(1, json.dumps(guard.obey(command)).encode() + b"\n")
    except BrokenPipeError:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        guard.end()


if __name__ == "__main__":
    main()
