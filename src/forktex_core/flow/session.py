# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Statements of flow inside a SQLAlchemy session of the caller: what they write commits, or is
rolled back, with the caller's own rows.

The same SQL as everywhere else runs on the session's connection, with its parameters spelled the
way SQLAlchemy wants them. Wake-ups wait for the session's commit; when the process dies right after
it, polling finds the work. SQLAlchemy is only imported when a session was given.
"""

import asyncio
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from forktex_core.flow.store.passage import CHANGING

if TYPE_CHECKING:
    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from forktex_core.flow.store.base import Queries

type AnySession = "AsyncSession | Session"

_PARAMETER = re.compile(r"\$(\d+)")
_COLON = re.compile(r"(?<!:):(?!:)")
_WAKE = "forktex_flow.wake"
_SET = "SELECT set_config(CAST($1 AS text), CAST($2 AS text), true)"


class SessionStatements:
    """Runs SQL in a session, as a Store wants it.

    Args:
        session: an AsyncSession, or a Session (whose statements then block the event loop unless
            its driver is asynchronous).
    """

    def __init__(self, session: AnySession) -> None:
        inner: Any = getattr(session, "sync_session", session)
        self._session: Session = inner

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement in the session's transaction."""
        from sqlalchemy.util import greenlet_spawn

        values = {f"p{number}": value for number, value in enumerate(args, 1)}

        def run() -> list[Any]:
            result: Any = self._session.execute(_clause(query), values)
            return list(result.mappings()) if result.returns_rows else []

        rows: list[Any] = await greenlet_spawn(run)
        return rows

    async def run(self, store: "Queries", name: str, *args: Any) -> list[Any]:
        """Run a named query, with all that extensions add to it."""
        sql, args = store.statement(name, *args)
        passage = store.passage
        if passage is None:
            return await self.fetch(sql, *args)
        for setting, value in () if store.sets(name) else passage.view.settings:
            await self.fetch(_SET, setting, value)
        if passage.watcher is None or name not in CHANGING:
            return await self.fetch(sql, *args)
        watcher = passage.watcher
        await self.fetch("SAVEPOINT forktex_flow_call")
        await watcher.begin(self)
        rows = await self.fetch(sql, *args)
        try:
            changes = await watcher.take(self)
        except Exception:
            await self.fetch("ROLLBACK TO SAVEPOINT forktex_flow_call")
            raise
        await self.fetch("RELEASE SAVEPOINT forktex_flow_call")
        self.after_commit(lambda: watcher.committed(changes))
        return rows

    def after_commit(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on this event loop when the session's transaction has committed; never when
        it was rolled back.
        """
        loop = asyncio.get_running_loop()
        pending: list[Callable[[], None]] | None = self._session.info.get(_WAKE)
        if pending is None:
            pending = self._session.info[_WAKE] = []
            _listen(self._session, pending, loop)
        pending.append(wake)


def _listen(
    session: "Session", pending: list[Callable[[], None]], loop: asyncio.AbstractEventLoop
) -> None:
    from sqlalchemy import event

    def committed(session: "Session") -> None:
        if session.in_nested_transaction():
            return  # a savepoint was released: the transaction goes on
        calls, pending[:] = list(pending), []
        for call in calls:
            loop.call_soon_threadsafe(call)

    def rolled_back(session: "Session") -> None:
        if not session.in_nested_transaction():
            pending.clear()

    event.listen(session, "after_commit", committed)
    event.listen(session, "after_rollback", rolled_back)


@cache
def _clause(sql: str) -> "TextClause":
    from sqlalchemy import text

    literal = _COLON.sub(r"\:", sql)  # a colon of ours is none of SQLAlchemy's parameters
    return text(_PARAMETER.sub(r":p\1", literal))
