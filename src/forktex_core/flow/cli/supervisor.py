# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Looks after worker processes: starts so many, starts again what died, stops all in good order,
and with ``--reload`` starts anew when a source file changed.

Protocol. Children have sessions of their own, so that a Ctrl-C of the terminal reaches them once,
through us: the first SIGTERM or SIGINT is handed on as SIGTERM (they drain), a second one too (they
stop at once). A child that ends by itself is started again, after a pause that grows while it keeps
dying young. One that ends with the code for a wrong command line (the entrypoint can't be imported)
would do so for ever: then all stop, with that code; under ``--reload`` it waits for the next change
instead. Children look whether their parent is still there, and drain when it is not.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forktex_core.flow.cli.failing import FAILED, WRONG

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_logger = logging.getLogger("forktex_core.flow.supervisor")
_LOOK = 0.3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_YOUNG = 30.0

type Snapshot = dict[Path, tuple[int, int]]


def snapshot(folders: Sequence[Path]) -> Snapshot:
    """Return time and size of every source file below some folders."""
    found: Snapshot = {}
    for folder in folders:
        for path in folder.rglob("*.py"):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            try:
                status = path.stat()
            except OSError:
                continue  # it went away meanwhile
            found[path] = (status.st_mtime_ns, status.st_size)
    return found


class Supervisor:
    """See the top of the file.

    Args:
        command: the command line of the child of a number, from 1.
        processes: how many.
        folders: where to look for changes; none: no reload.
    """

    def __init__(
        self, command: Callable[[int], list[str]], processes: int, folders: Sequence[Path] = ()
    ) -> None:
        self._command, self._processes, self._folders = command, processes, folders
        self._children: set[Process] = set()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Look after the children until told to stop; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        watching = asyncio.create_task(self._watch()) if self._folders else None
        try:
            await asyncio.gather(*(self._keep(n + 1) for n in range(self._processes)))
        finally:
            if watching is not None:
                watching.cancel()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        return self._code

    def _stop(self) -> None:
        self._stopping.set()
        self._terminate()

    def _terminate(self) -> None:
        for child in self._children:
            if child.returncode is None:
                child.terminate()

    async def _keep(self, number: int) -> None:
        """Keep one child alive."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            changed = self._changed
            began = time.monotonic()
            code = await self._one_life(number)
            if self._stopping.is_set():
                self._code = self._code or (FAILED if code else 0)
            elif changed.is_set():
                pause = _FIRST_PAUSE
            elif code == WRONG and not self._folders:
                self._code = WRONG
                self._stop()
            elif code == WRONG:
                _logger.error("worker %s can't begin: waiting for a change", number)
                await self._first(changed)
            else:
                pause = _FIRST_PAUSE if time.monotonic() - began > _YOUNG else pause
                _logger.warning(
                    "worker %s ended with %s: starting it again in %.1f s", number, code, pause
                )
                await self._first(changed, pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _one_life(self, number: int) -> int:
        child = await asyncio.create_subprocess_exec(*self._command(number), start_new_session=True)
        self._children.add(child)
        if self._stopping.is_set():  # it was told while this one was being started
            child.terminate()
        try:
            return await child.wait()
        finally:
            self._children.discard(child)

    async def _first(self, changed: asyncio.Event, timeout: float | None = None) -> None:
        """Wait until files changed, all is to stop, or the time is over."""
        waits = [asyncio.create_task(event.wait()) for event in (changed, self._stopping)]
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()

    async def _watch(self) -> None:
        """Start all children anew when a source file changed."""
        before = await asyncio.to_thread(snapshot, self._folders)
        while True:
            await asyncio.sleep(_LOOK)
            now = await asyncio.to_thread(snapshot, self._folders)
            if now != before:
                names = sorted({p for p, _ in set(before.items()) ^ set(now.items())})
                _logger.info("%s changed: starting anew", ", ".join(map(str, names[:3])))
                before = now
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
                self._terminate()
