# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Transactional steps: the step's own work and its journal entry in one transaction.

Protocol.

1. The step works on a session over a connection with an open transaction. What it sends and starts
   is only gathered.
2. When it has returned, everything that the run appended before is waited for, so nothing that the
   step was built on can get lost once its effects are visible.
3. Last before the commit come, in one statement: the fence (the worker's row, locked until the
   commit), the entry, the runs started, the signals sent, with the rows of their runs locked in id
   order. So two steps that signal each other's runs never wait for each other in a circle, and hold
   those locks as shortly as can be.
4. A commit whose answer was lost is looked up on another connection, by key, claim and attempt,
   after whoever may still be writing that key is done. What is there then is committed; what is
   not there never will be, and the step is run again.

A step whose connection was lost, or that a server refused which can't work now (its disk is full,
say), is run again, without that counting as an attempt: all that it did was rolled back. So is one
that met a deadlock or a serialization failure, some times: Postgres chose it to give way to another
transaction, which says nothing about the step. Any other error is the step's own.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from forktex_core.flow.engine.journal import entry_row
from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.errors import ContextMisuseError, DatabaseUnavailableError
from forktex_core.flow.store.connection import Backoff, connect, is_outage
from forktex_core.flow.store.effects import (
    Effect,
    EffectColumns,
    Woken,
    effect_answer,
)
from forktex_core.flow.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

    from forktex_core.flow.engine.execution import Execution
    from forktex_core.flow.engine.operation import StepCall
    from forktex_core.flow.extension import Change
    from forktex_core.flow.replay import Entry

_logger = logging.getLogger("forktex_core.flow.transaction")
_WAIT_FOR_CONNECTION = 3600.0
_CONFLICTS = ("40001", "40P01")  # serialization_failure, deadlock_detected
_MOST_CONFLICTS = 8


class ConnectionLost(BaseException):
    """The connection of a transaction is gone or the server can't work now, and all that was done
    on it is undone.
    """


class Conflicts:
    """How often one step gave way to other transactions."""

    def __init__(self, step: str) -> None:
        self._step, self._count = step, 0
        self._backoff = Backoff()

    def repeats(self, error: BaseException) -> bool:
        """Say whether an error is a conflict, and not one too many."""
        if not is_conflict(error) or self._count == _MOST_CONFLICTS:
            return False
        self._count += 1
        _logger.info("step %r gave way to another transaction, and begins again", self._step)
        return True

    async def pause(self) -> None:
        """Let the other transaction come to its end."""
        await self._backoff.pause()


def is_conflict(error: BaseException) -> bool:
    """Say whether Postgres rolled a transaction back for the sake of another one: a serialization
    failure or a deadlock, as the driver or SQLAlchemy raises it, or as the stated cause of another
    error.
    """
    found: BaseException | None = error
    while found is not None:
        state = getattr(getattr(found, "orig", found), "sqlstate", None)
        if state in _CONFLICTS:
            return True
        found = found.__cause__
    return False


class Transaction:
    """One attempt's connection, session, and what it sends and starts."""

    def __init__(
        self, connection: "AsyncConnection", session: "AsyncSession", store: Store
    ) -> None:
        self._connection = connection
        self._store = store
        self.session = session
        self.effects: list[Effect] = []
        self._changes: Sequence[Change] = ()

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self._connection.invalidated or self._connection.closed

    async def write(self, worker: int, run_id: Any, entry: "Entry") -> tuple[int, list[Woken]]:
        """Add entry and effects; return how many entries were new, and who is to be told."""
        if not self._connection.in_transaction():
            raise ContextMisuseError(
                f"step {entry.name!r} rolled its session back and went on: raise an error instead, "
                "or use a savepoint (session.begin_nested())"
            )
        columns = EffectColumns()
        columns.add(1, self.effects)
        arguments = self._store.effect_arguments(worker, [entry_row(run_id, entry)], [], columns)
        passage = self._store.passage
        watcher = None if passage is None or not self.effects else passage.watcher
        if watcher is not None:
            await watcher.begin(self)
        answer = effect_answer(await self.fetch(self._store.sql["append_effects"], *arguments))
        if watcher is not None:
            self._changes = await watcher.take(self)
        return answer

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement in the transaction."""
        result = await self._connection.exec_driver_sql(query, args or None)
        return list(result.mappings()) if result.returns_rows else []

    async def commit(self) -> None:
        """Commit."""
        await self._connection.commit()
        if self._changes and (passage := self._store.passage) and passage.watcher:
            passage.watcher.committed(self._changes)

    async def close(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        try:
            await self.session.close()
        finally:
            await self._connection.close()


class Transactions:
    """The connections of transactional steps, made when the first one is needed.

    Args:
        dsn: where the database is.
        prepared: whether statements may be prepared by name (not behind a transaction pooler).
        size: connections at most; further steps wait.
        store: how entries are written, and queries on another connection, for a commit whose
            answer was lost.
        outage: told of what fails.
    """

    def __init__(
        self, dsn: str, store: Store, outage: Outage, *, prepared: bool, size: int
    ) -> None:
        self._outage = outage
        self._dsn, self._prepared, self._size = dsn, prepared, size
        self._store = store
        self._engine: AsyncEngine | None = None

    async def begin(self) -> Transaction:
        """Return a new transaction; waits for a connection."""
        from sqlalchemy.ext.asyncio import AsyncSession

        connection = await self._open().connect()
        _ = await connection.begin()
        session = AsyncSession(
            connection, expire_on_commit=False, join_transaction_mode="rollback_only"
        )
        return Transaction(connection, session, self._store)

    def _open(self) -> "AsyncEngine":
        if self._engine is None:
            from sqlalchemy.ext.asyncio import create_async_engine

            creator = functools.partial(
                connect, self._dsn, "forktex-flow steps", session=self._prepared
            )
            arguments: dict[str, Any] = {"async_creator_fn": creator}
            if not self._prepared:  # unnamed statements: a pooler may change the server between two
                arguments |= {
                    "prepared_statement_cache_size": 0,
                    "prepared_statement_name_func": str,
                }
            self._engine = create_async_engine(
                "postgresql+asyncpg://",
                connect_args=arguments,
                pool_size=self._size,
                max_overflow=0,
                pool_timeout=_WAIT_FOR_CONNECTION,
            )
        return self._engine

    async def close(self) -> None:
        """Close all connections; safe to repeat."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def perform(
        self,
        execution: "Execution",
        call: "StepCall",
        run: Callable[[Transaction], Awaitable[str]],
    ) -> None:
        """Run a step in a transaction until it is committed; raise the step's own error.

        ``run`` does the step's work and returns the text of its result.
        """
        conflicts = Conflicts(call.name)
        with self._outage.patience(f"step {call.name!r}") as patience:
            while not execution.closed:
                try:
                    transaction = await self.begin()
                except (OSError, DatabaseUnavailableError) as error:
                    await patience.pause(error)
                    continue
                lost = None
                try:
                    await self._attempt(execution, call, transaction, run)
                    return
                except ConnectionLost as error:
                    lost = error
                except Exception as error:
                    if not conflicts.repeats(error):
                        raise
                finally:
                    call.committing = False
                    await _close(transaction)
                await (conflicts.pause() if lost is None else patience.pause(lost))

    async def _attempt(
        self,
        execution: "Execution",
        call: "StepCall",
        transaction: Transaction,
        run: Callable[[Transaction], Awaitable[str]],
    ) -> None:
        try:
            text = await run(transaction)
            await execution.flushed()
        except Exception as error:
            if transaction.lost or is_outage(error):
                raise ConnectionLost(str(error)) from error
            raise
        if call.abandoned or execution.closed:
            return
        call.committing = True  # from here on nothing interrupts it
        entry = execution.entry(call, False, text)
        execution.reserve(entry)
        durable = False
        try:
            durable, woken = await self._commit(execution, transaction, entry)
        finally:
            execution.settled(entry, durable)
        execution.host.woken(woken)

    async def _commit(
        self, execution: "Execution", transaction: Transaction, entry: "Entry"
    ) -> tuple[bool, list[Woken]]:
        worker = execution.host.worker_id
        committing = False
        try:
            added, woken = await transaction.write(worker, execution.run_id, entry)
            if not added:
                execution.host.lost(execution)
                return False, []
            committing = True
            await transaction.commit()
        except Exception as error:
            if not transaction.lost and not is_outage(error):
                raise
            if committing and await self._committed(execution, worker, entry):
                return True, []
            raise ConnectionLost(str(error)) from error
        return True, woken

    async def _committed(self, execution: "Execution", worker: int, entry: "Entry") -> bool:
        look = functools.partial(self._store.settle_entry, execution.run_id, entry.key)
        found: Any = await self._outage.wait_out(f"the commit of step {entry.name!r}", look)
        ours = (worker, entry.claim, entry.attempt, entry.seq)
        return found is not None and tuple(found) == ours


async def _close(transaction: Transaction) -> None:
    try:
        await transaction.close()
    except Exception as error:  # noqa: BLE001 - then the connection was gone already
        _logger.debug("closing a transaction: %s", error)
