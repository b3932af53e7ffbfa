# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The process that stands between an embedded server and its owner; run as a script.

Protocol. The owner starts this script with its own process id and a line of JSON as arguments
(``folder`` to remove at the end or null, ``signals`` to stop the server with then), and holds the
only writing end of our standard input. Each line that it writes there is a command, answered by
one line on our standard output. When the input ends, or when our parent is no longer the owner (a
child that the owner forked may keep the pipe open), the owner has closed us or is dead; we can't
and need not tell which: stop the server, remove the folder, leave. A lock's descriptor that was
handed to us stays open as long as we live, so that a folder is locked exactly as long as a server
may use it.

The server is our child, so its process id can't be another's before we have waited for it. Should
we be killed ourselves, the kernel stops the server (on Linux).

A server that runs as another user than we can often not pass through the folders above its own
(root's home, a test's temporary folder). We open such ``doors`` for it: it inherits descriptors of
its folders, and its command line names them by ``/proc/self/fd``, where no folder above is asked.

Only the standard library, and its light parts: this has to be up in some ten milliseconds.
"""

import contextlib
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
REMOVAL_TRIES = 500
REMOVAL_PAUSE = 0.01

Signals = list[tuple[int, float]]


def die_with_parent(number: int) -> Callable[[], None] | None:
    """What a child runs before exec so that the kernel signals it when this process dies."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, number)

    return arm


def children_of(pid: int) -> list[int]:
    """The direct children of a process (none where /proc doesn't tell)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123 - pathlib loads slowly
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


class Guard:
    """One server at a time, started and ended on command."""

    def __init__(self, folder: str | None, signals: Signals) -> None:
        self.folder = folder
        self.signals = signals
        self.server: subprocess.Popen[bytes] | None = None

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a command says; the answer to it."""
        verbs: dict[str, Callable[..., dict[str, Any]]] = {
            "start": self.start,
            "stop": self.stop,
            "kill": self.kill,
            "status": self.status,
        }
        return verbs[command.pop("do")](**command)

    def status(self) -> dict[str, Any]:
        """``code``: null while the server lives, else how it ended."""
        return {"code": self.server.poll() if self.server else 0}

    def start(
        self, argv: list[str], log: str, env: dict[str, str], user: int | None, doors: list[str]
    ) -> dict[str, Any]:
        """Start a program: ``pid``, or ``error``."""
        account: dict[str, Any] = {"user": user, "group": user, "extra_groups": []}
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(open(log, "ab"))  # noqa: PTH123 - as above
            passed = []
            for path in doors if user is not None else ():
                passed.append(door := os.open(path, os.O_RDONLY))
                opened.callback(os.close, door)
                argv = [word.replace(path, f"/proc/self/fd/{door}") for word in argv]
            try:
                self.server = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=env,
                    pass_fds=passed,
                    start_new_session=True,
                    preexec_fn=die_with_parent(self.signals[0][0]),  # noqa: PLW1509 - one thread
                    **(account if user is not None else {}),
                )
            except OSError as error:
                return {"error": str(error)}
        return {"pid": self.server.pid}

    def stop(self, signals: Signals) -> dict[str, Any]:
        """Send signals in order, each with its patience in seconds; SIGKILL in the end."""
        for number, patience in signals:
            if self.server is None or self.server.poll() is not None:
                break
            self.server.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(patience)
        return self.kill()

    def kill(self) -> dict[str, Any]:
        """End server and children as a power cut does: frozen first, so that none is born."""
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGSTOP)
            for pid in children_of(self.server.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.server.kill()
            self.server.wait()
        return self.status()

    def end(self) -> None:
        """Stop, and remove the folder; its last users may still be writing to it."""
        self.stop(self.signals)
        for _ in range(REMOVAL_TRIES):
            if self.folder is None or not os.path.lexists(self.folder):
                break
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(REMOVAL_PAUSE)


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
    """End on a signal as if the owner had gone."""
    raise SystemExit(0)


def main() -> None:
    """Obey until the owner goes, then tidy up."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    guard = Guard(**json.loads(sys.argv[2]))
    try:
        for command in commands(int(sys.argv[1]), guard.status):
            os.write(1, json.dumps(guard.obey(command)).encode() + b"\n")
    except BrokenPipeError:
        pass  # the owner died between its command and our answer
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        guard.end()


if __name__ == "__main__":
    main()
