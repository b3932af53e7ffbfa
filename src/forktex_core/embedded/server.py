# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The life of an embedded server, whichever it is.

Opening makes the folder and locks it, starts the guard (guard.py) and through it the server;
closing lets the guard stop the server and, when the folder is ephemeral, remove it. In between the
server may be stopped, killed and started again any number of times: port, password and data stay.

The core is synchronous, one operation at a time; the async methods run it in a thread. A start that
is cancelled is waited for and undone, so that no cancellation leaves a server behind.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import tempfile
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from forktex_core.embedded.errors import EmbeddedError, NotRunningError, PathInUseError, StartError
from forktex_core.embedded.owner import GuardProcess

HOST = "127.0.0.1"
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
START_TIMEOUT = 60.0
RETRY_TIMEOUT = 15.0
POLL = 0.01
LOG_TAIL = 4000


class Server(ABC):
    """What ``EmbeddedPostgres`` and ``EmbeddedRedis`` share."""

    name: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._ephemeral = path is None
        self._path = Path(path).absolute() if path is not None else None
        self._folder: Path | None = None
        self._guard: GuardProcess | None = None
        self._port: int | None = None
        self._pid: int | None = None
        self._opener = os.getpid()
        self._turn = threading.RLock()

    # What a concrete server says.

    @abstractmethod
    def _stop_signals(self) -> list[tuple[int, float]]:
        """Signals that stop it, each with the seconds to wait for its effect."""

    @abstractmethod
    def _prepare(self, folder: Path) -> None:
        """Make the folder ready for a start (also for one over a crash's remains)."""

    @abstractmethod
    def _command(self, folder: Path, port: int) -> list[str]:
        """The server's command line."""

    @abstractmethod
    def _is_ready(self, folder: Path, port: int, pid: int) -> bool:
        """Whether it serves by now."""

    def _end_signals(self) -> list[tuple[int, float]]:
        """The same for a server whose folder may go with it."""
        return self._stop_signals()

    @abstractmethod
    def _mend(self, folder: Path, said: str) -> bool:
        """Whether a start that failed with these words deserves another attempt."""

    def _after_kill(self, folder: Path) -> None:  # noqa: B027 - most leave nothing
        """Tidy up what a killed server could not."""

    def _account(self) -> int | None:
        """The user id to run as; None for our own."""
        return None

    def _doors(self, folder: Path) -> list[Path]:
        """What that user must reach: folders and files of theirs."""
        return []

    # What users see.

    @property
    def path(self) -> Path:
        """The folder that holds everything of this server (gone after closing when ephemeral)."""
        if self._folder is None:
            raise NotRunningError(self.name)
        return self._folder

    @property
    def port(self) -> int:
        """The TCP port on the loopback interface; the same over restarts."""
        if self._port is None:
            raise NotRunningError(self.name)
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._pid is None:
            raise NotRunningError(self.name)
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the server's process lives (false after a crash that nobody asked for, too)."""
        guard, started = self._guard, self._pid is not None
        return guard is not None and started and guard.ask(do="status")["code"] is None

    async def start(self) -> None:
        """Start, also again after ``stop``, ``kill`` or a crash; a running one is left alone.

        Raises WheelMissingError, PathInUseError or StartError."""
        await self._uninterrupted(self._open)

    async def stop(self) -> None:
        """Shut down in order, keeping the folder for another ``start``; again does nothing."""
        await self._uninterrupted(self._stop)

    async def kill(self) -> None:
        """Crash at once, as by a power cut: SIGKILL to the server and its children."""
        await self._uninterrupted(self._kill)

    async def restart(self) -> None:
        """``stop`` and ``start``, on the same port."""
        await self.stop()
        await self.start()

    async def close(self) -> None:
        """Stop, and remove the folder if it is ephemeral; a second time does nothing."""
        await self._uninterrupted(self._close)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except asyncio.CancelledError:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __del__(self) -> None:
        if getattr(self, "_guard", None) is not None and os.getpid() == self._opener:
            warnings.warn(
                f"unclosed {self.name} in {self._folder}",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            self._close()

    # The synchronous core.

    @staticmethod
    async def _uninterrupted(work: Callable[[], None]) -> None:
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            task.exception()  # looked at: cancellation is what the caller hears of
            raise

    def _open(self) -> None:
        with self._turn:
            if self.running:
                return
            try:
                folder = self._folder or self._enter_folder()
                self._prepare(folder)
                self._launch(folder)
            except BaseException:
                self._close()
                raise

    def _enter_folder(self) -> Path:
        """Make the folder, and the guard that will see to its end."""
        self._opener = os.getpid()
        if self._path is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"forktex-{self.name.lower()}-"))
            self._guard = GuardProcess(self._folder, self._end_signals(), lock=None)
            return self._folder
        if not self._path.exists():
            self._path.mkdir(mode=0o700, parents=True)
        lock = locked(self._path)
        try:
            self._guard = GuardProcess(None, self._end_signals(), lock)
        finally:
            os.close(lock)
        self._folder = self._path
        return self._folder

    def _launch(self, folder: Path) -> None:
        deadline = time.monotonic() + RETRY_TIMEOUT
        while True:
            port = self._port or free_port()
            said = self._attempt(folder, port)
            if said is None:
                self._port = port
                return
            busy = "in use" in said and self._port is None
            if time.monotonic() > deadline or not (busy or self._mend(folder, said)):
                raise StartError(self.name, "its process ended", said)
            time.sleep(POLL)

    def _attempt(self, folder: Path, port: int) -> str | None:
        """Start once; what the server said if it failed."""
        begin = log_size(folder)
        pid = self._spawn(folder, self._command(folder, port))
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready(folder, port, pid):
            if self._ask(do="status")["code"] is not None:
                return log_since(folder, begin)
            if time.monotonic() > deadline:
                late = f"not ready after {START_TIMEOUT:.0f} s"
                raise StartError(self.name, late, log_since(folder, begin))
            time.sleep(POLL)
        self._pid = pid
        return None

    def _run(self, folder: Path, argv: list[str]) -> None:
        """Run a program of the server's to its end, as the server's user."""
        begin = log_size(folder)
        self._spawn(folder, argv)
        while (code := self._ask(do="status")["code"]) is None:
            time.sleep(POLL)
        if code != 0:
            reason = f"{Path(argv[0]).name} failed"
            raise StartError(self.name, reason, log_since(folder, begin))

    def _spawn(self, folder: Path, argv: list[str]) -> int:
        answer = self._ask(
            do="start",
            argv=argv,
            log=str(folder / "log"),
            env=ENVIRONMENT,
            user=self._account(),
            doors=[str(door) for door in self._doors(folder)],
        )
        if "error" in answer:
            raise StartError(self.name, answer["error"])
        pid: int = answer["pid"]
        return pid

    def _ask(self, **command: Any) -> dict[str, Any]:
        guard = self._guard
        if guard is None:
            raise NotRunningError(self.name)
        return guard.ask(**command)

    def _stop(self) -> None:
        with self._turn:
            self._pid = None
            if self._guard is not None:
                self._ask(do="stop", signals=self._stop_signals())

    def _kill(self) -> None:
        with self._turn:
            self._pid = None
            if self._folder is not None:
                self._ask(do="kill")
                self._after_kill(self._folder)

    def _close(self) -> None:
        with self._turn:
            guard, self._guard = self._guard, None
            self._pid = self._port = self._folder = None
            if guard is not None:
                guard.close()


def free_port() -> int:
    """A port that nobody listens on right now; who starts on it must be ready to lose the race."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def log_size(folder: Path) -> int:
    """How much has been logged by now."""
    log = folder / "log"
    return log.stat().st_size if log.exists() else 0


def log_since(folder: Path, begin: int) -> str:
    """The end of what was logged since a size."""
    with (folder / "log").open("rb") as file:
        file.seek(begin)
        return file.read()[-LOG_TAIL:].decode(errors="replace").strip()


def locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock.

    It goes over to the guard, so it outlives a killed owner until the guard has stopped the server:
    that is waited for. Raises PathInUseError."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise EmbeddedError(f"can't use {folder} as a server's folder: {exc}") from exc
    deadline = time.monotonic() + RETRY_TIMEOUT
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        owner = int(os.pread(descriptor, 20, 0) or 0) or None
        if (owner is not None and lives(owner)) or time.monotonic() > deadline:
            os.close(descriptor)
            raise PathInUseError(folder, owner)
        time.sleep(POLL)


def lives(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
