# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How statements reach the database when a Flow has extensions.

Without any, a store has no passage and sends its statements as they are. With one, a statement gets
what its principal's view adds. It runs in an explicit transaction only if that is needed: because
settings have to be made first, or because somebody takes part in changes of status.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from forktex_core.flow.extension import Change, TransitionConnection
from forktex_core.flow.store.view import Rendered, View

# What may change the status of a run, or make one. A test watches everything else.
CHANGING = frozenset({
    "insert_run", "insert_runs", "insert_runs_array", "send_signal", "put_signals", "claim_runs",
    "wake_runs",
    "park_runs", "finish_runs", "continue_runs", "release_runs", "end_worker", "do_chores",
    "append_effects", "pause_run", "resume_run", "rewind_run", "fork_run", "move_run",
    "start_scheduled", "fire_schedule",
})  # fmt: skip
_SET = "SELECT set_config(a.name, a.value, true) FROM unnest($1::text[], $2::text[]) a(name, value)"


class Watcher(Protocol):
    """Who takes part in changes of status: engine/watching.py."""

    async def begin(self, connection: TransitionConnection) -> None:
        """Ask for the changes that this transaction is about to make."""

    async def take(self, connection: TransitionConnection) -> Sequence[Change]:
        """Return the changes made since begin(), and take part in them."""

    def committed(self, changes: Sequence[Change]) -> None:
        """Take note that changes are committed."""


class Transactional(Protocol):
    """A pool or a link: see connection.py."""

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Run one statement."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Return a connection within a transaction, committed at the end."""


class Passage:
    """See the top of the file.

    Args:
        view: what the statements carry.
        watcher: who takes part in changes of status, if anybody does.
    """

    def __init__(self, view: View, watcher: Watcher | None = None) -> None:
        self.view, self.watcher = view, watcher

    def seen_by(self, view: View) -> "Passage":
        """Return the same for another view."""
        return Passage(view, self.watcher)

    async def fetch(
        self, statements: Transactional, name: str, query: Rendered, args: tuple[Any, ...]
    ) -> list[Any]:
        """Run one named query."""
        args = query.arguments(self.view, args)
        watcher = self.watcher if name in CHANGING else None
        settings = () if query.sets else self.view.settings
        if watcher is None and not settings:
            return await statements.fetch(query.sql, *args)
        changes: Sequence[Change] = ()
        async with statements.transaction() as connection:
            if settings:
                names, values = zip(*settings, strict=True)
                await connection.fetch(_SET, names, values)
            if watcher is not None:
                await watcher.begin(connection)
            rows: list[Any] = await connection.fetch(query.sql, *args)
            if watcher is not None:
                changes = await watcher.take(connection)
        if watcher is not None:
            watcher.committed(changes)
        return rows
