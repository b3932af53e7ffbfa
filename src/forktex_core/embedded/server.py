# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The life of an embedded server, whichever it is.

Opening makes the folder and locks it, starts the guard (guard.py) and through it the server; closing
lets the guard stop the server and, when the folder is ephemeral, remove it. In between the server may
be stopped, killed and started again any number of times: port, password and data stay.

The core is synchronous; the async methods run it in a thread. A start that is cancelled is waited for and
undone, so that no cancellation leaves a server behind.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

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

    @abstractmethod
    def _mend(self, folder: Path, said: str) -> bool:
        """Whether a start that failed with these words deserves another attempt."""

    def _account(self) -> int | None:
        """The user id to run as; None for our own."""
        return None

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
        return (
            self._guard is not None
            and self._pid is not None
            and self._guard.ask(do="status")["code"] is None
        )

    async def start(self) -> None:
        """Start, or start again after ``stop``, ``kill`` or a crash; nothing happens when it runs.

        Raises WheelMissingError, PathInUseError or StartError."""
        await self._uninterrupted(self._open)

    async def stop(self) -> None:
        """Shut down in order, keeping the folder for another ``start``; nothing happens when it doesn't run."""
        await self._uninterrupted(lambda: self._end("stop"))

    async def kill(self) -> None:
        """Crash at once, as by a power cut: SIGKILL to the server and its children."""
        await self._uninterrupted(lambda: self._end("kill"))

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
            raise

    def _open(self) -> None:
        if self.running:
            return
        try:
            if self._guard is None:
                self._opener = os.getpid()
                self._enter_folder()
            folder = self.path
            self._prepare(folder)
            self._launch(folder)
        except BaseException:
            self._close()
            raise

    def _enter_folder(self) -> None:
        mode = 0o711 if os.geteuid() == 0 else 0o700
        if self._path is None:
            folder = Path(tempfile.mkdtemp(prefix=f"forktex-{self.name.lower()}-"))
            folder.chmod(mode)
            self._guard = GuardProcess(folder, self._stop_signals(), lock=None)
        else:
            folder = self._path
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(mode)
            lock = locked(folder)
            try:
                self._guard = GuardProcess(None, self._stop_signals(), lock)
            finally:
                os.close(lock)
        self._folder = folder

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
        assert self._guard is not None
        log = folder / "log"
        begin = log.stat().st_size if log.exists() else 0
        answer = self._guard.ask(
            do="start",
            argv=self._command(folder, port),
            log=str(log),
            env=ENVIRONMENT,
            user=self._account(),
        )
        if "error" in answer:
            raise StartError(self.name, answer["error"])
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready(folder, port, answer["pid"]):
            if self._guard.ask(do="status")["code"] is not None:
                return tail(log, begin)
            if time.monotonic() > deadline:
                raise StartError(
                    self.name, f"not ready after {START_TIMEOUT:.0f} s", tail(log, begin)
                )
            time.sleep(POLL)
        self._pid = answer["pid"]
        return None

    def _end(self, verb: str) -> None:
        if self._guard is not None:
            self._guard.ask(do=verb)
        self._pid = None

    def _close(self) -> None:
        guard, self._guard = self._guard, None
        self._pid = self._port = self._folder = None
        if guard is not None:
            guard.close()


def free_port() -> int:
    """A port that nobody listens on right now; whoever starts on it must be ready to lose the race."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def tail(log: Path, begin: int) -> str:
    """The end of what was logged since an offset."""
    with log.open("rb") as file:
        file.seek(begin)
        return file.read()[-LOG_TAIL:].decode(errors="replace").strip()


def locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock.

    The lock goes over to the guard, so it outlives a killed owner until the guard has stopped the server: that is waited for."""
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
