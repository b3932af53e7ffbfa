# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Changes of status, told to extensions.

Protocol. A trigger notes the changes of a transaction in a setting of that transaction, if it asked
for them; so no statement needs to know what it changes, and nothing is written anywhere. They are
taken out before the commit, the hooks ``on_transition`` are called in order, and after the commit
``after_commit``.

What a caller asks for, a hook can refuse: its error undoes the change and is the caller's. What the
engine does (claims, ends, what the leader hands on) is no hook's to refuse, or one tenant's error
would stop the others: there each call has a savepoint, and an error loses what that call wrote, and
is logged. Errors that pass by themselves (a deadlock, a lost connection) are not caught: the engine
repeats the statement, hooks and all.

``after_commit`` hooks have a line each, worked off one by one: one that fails or hangs holds up
nobody else. A line that grows too long loses its oldest changes, and says so.
"""

import asyncio
import collections
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from forktex_core.flow.errors import ChangeRefusedError
from forktex_core.flow.extending import Extensions, settled
from forktex_core.flow.extension import Change, Column, TransitionConnection

_logger = logging.getLogger("forktex_core.flow.extension")
_BEGIN = (
    "SELECT set_config('forktex_flow.watched', 'on', true), "
    "set_config('forktex_flow.changes', '', true)"
)
_TAKE = (
    "SELECT current_setting('forktex_flow.changes', true) AS changes, "
    "set_config('forktex_flow.watched', 'off', true) AS off"
)
_SAVEPOINT = "SAVEPOINT forktex_flow_hook"
_RELEASE = "RELEASE SAVEPOINT forktex_flow_hook"
_UNDO = "ROLLBACK TO SAVEPOINT forktex_flow_hook"
_PASSING = ("40", "08", "57")  # SQLSTATE classes: rollback, connection, operator intervention
_LONGEST = 10_000
_FAREWELL = 5.0


class Watching:
    """Calls the hooks of a Flow's extensions. See the top of the file.

    Args:
        extensions: the extensions.
        strict: whether an error of ``on_transition`` refuses the change.
        lines: the lines of ``after_commit`` hooks, shared by all that watch for a Flow.
    """

    def __init__(
        self, extensions: Extensions, *, strict: bool = True, lines: "Sequence[_Line] | None" = None
    ) -> None:
        self._extensions, self._strict = extensions, strict
        made = [_Line(hook) for hook in extensions.after_commit] if lines is None else lines
        self._lines: Sequence[_Line] = made

    def lenient(self) -> "Watching":
        """Return the same for the engine's own work."""
        return Watching(self._extensions, strict=False, lines=self._lines)

    async def begin(self, connection: TransitionConnection) -> None:
        """Ask for the changes that this transaction is about to make."""
        await connection.fetch(_BEGIN)

    async def take(self, connection: TransitionConnection) -> Sequence[Change]:
        """Return the changes made since begin(), after the hooks took part in them.

        Raises:
            ChangeRefusedError: a hook failed, and may refuse.
        """
        noted = (await connection.fetch(_TAKE))[0]["changes"]
        changes = read_changes(noted or "", self._extensions.columns)
        for change in changes:
            for hook in self._extensions.on_transition:
                await self._call(hook, change, connection)
        return changes

    async def _call(
        self, hook: Callable[..., Any], change: Change, connection: TransitionConnection
    ) -> None:
        if self._strict:
            try:
                await settled(hook(change, connection))
            except Exception as error:
                raise ChangeRefusedError(change.run_id, change.new, error) from error
            return
        await connection.fetch(_SAVEPOINT)
        try:
            await settled(hook(change, connection))
        except Exception as error:
            if _passes(error):
                raise
            _logger.exception("on_transition failed: run %s is %s", change.run_id, change.new)
            await connection.fetch(_UNDO)
        await connection.fetch(_RELEASE)

    def committed(self, changes: Sequence[Change]) -> None:
        """Take note that changes are committed."""
        for line in self._lines:
            line.put(changes)

    async def close(self) -> None:
        """Let the hooks hear what is left, for some seconds; safe to repeat."""
        await asyncio.gather(*(line.close() for line in self._lines))


class _Line:
    """The changes that one after_commit hook has not heard of yet."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self._hook = hook
        self._changes: collections.deque[Change] = collections.deque()
        self._working: asyncio.Task[None] | None = None

    def put(self, changes: Sequence[Change]) -> None:
        self._changes.extend(changes)
        lost = len(self._changes) - _LONGEST
        if lost > 0:
            for _ in range(lost):
                self._changes.popleft()
            _logger.error("after_commit is too slow: %d changes were left out", lost)
        if self._working is None and self._changes:
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._changes:
                change = self._changes.popleft()
                try:
                    await settled(self._hook(change))
                except Exception:  # one failing hook hurts nobody
                    _logger.exception(
                        "after_commit failed: run %s is %s", change.run_id, change.new
                    )
        finally:
            self._working = None

    async def close(self) -> None:
        if self._working is not None:
            done, pending = await asyncio.wait([self._working], timeout=_FAREWELL)
            for task in pending:
                task.cancel()
            await asyncio.gather(*done, *pending, return_exceptions=True)


def read_changes(noted: str, columns: Sequence[Column]) -> list[Change]:
    """Read what the trigger noted: a JSON array on each line."""
    return [
        Change(
            run_id=UUID(found["id"]), workflow=found["workflow"], version=found["version"],
            queue=found["queue"], old=found["old"], new=found["new"],
            at=datetime.fromisoformat(found["at"]),
            columns={c.name: c.load(found["columns"].get(c.name)) for c in columns},
        )
        for line in noted.splitlines()
        for found in json.loads(line)
    ]  # fmt: skip


def _passes(error: BaseException | None) -> bool:
    """Say whether an error of the database's may be gone the next time."""
    while error is not None:
        state = getattr(error, "sqlstate", None)
        if isinstance(error, OSError) or (isinstance(state, str) and state[:2] in _PASSING):
            return True
        error = error.__cause__ or error.__context__
    return False
