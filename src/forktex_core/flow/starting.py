# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Starting runs, and waiting for what becomes of them."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack, overload
from uuid import UUID

from forktex_core.flow.client import Client, check_start
from forktex_core.flow.gate import guarded
from forktex_core.flow.identity import as_run_id, new_run_id
from forktex_core.flow.retry import positive, seconds, span
from forktex_core.flow.session import AnySession, SessionStatements
from forktex_core.flow.store.rows import NewRun, NewRuns
from forktex_core.flow.workflow import Workflow


class AllOptions(TypedDict, total=False):
    """What start(), start_many() and run() all take; see start()."""

    version: int | None
    queue: str
    priority: int
    key: str | None
    delay: float | timedelta | None
    at: datetime | None
    timeout: float | timedelta | None
    metadata: dict[str, Any] | None


class UniqueOptions(TypedDict, total=False):
    """What only a single run can have."""

    idempotency_key: str | None
    deduplication_key: str | None


class StartManyOptions(AllOptions, total=False):
    """What start_many() takes."""

    session: AnySession | None


class StartOptions(StartManyOptions, UniqueOptions, total=False):
    """What start() takes."""


class RunOptions(AllOptions, UniqueOptions, total=False):
    """What run() takes: as start(), but ``timeout`` bounds the wait, and there is no session."""


class Starting(Client):
    """The part of Flow that starts runs."""

    @overload
    async def start[I](
        self, workflow: Workflow[I, Any], input: I, **options: Unpack[StartOptions]
    ) -> UUID: ...
    @overload
    async def start(
        self, workflow: Workflow[None, Any], input: None = None, **options: Unpack[StartOptions]
    ) -> UUID: ...
    @overload
    async def start(
        self, workflow: str, input: Any = None, **options: Unpack[StartOptions]
    ) -> UUID: ...
    @guarded("start")
    async def start(
        self,
        workflow: str | Workflow[Any, Any],
        input: Any = None,
        *,
        idempotency_key: str | None = None,
        version: int | None = None,
        queue: str = "default",
        priority: int = 0,
        key: str | None = None,
        deduplication_key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        timeout: float | timedelta | None = None,
        metadata: dict[str, Any] | None = None,
        session: AnySession | None = None,
    ) -> UUID:
        """Start a run and return its id (a UUIDv7).

        Args:
            workflow: the workflow, or its name.
            input: what the body takes after ``ctx``.
            idempotency_key: a second start of the workflow with the same key returns the first
                one's run, whatever its input, until that run is pruned.
            version: the newest by default.
            queue: workers of that queue run it.
            priority: higher goes first within a queue (and key).
            key: on whose account it runs in its queue: keys get equal shares, and limits may hold
                for each key. See queue().
            deduplication_key: while a run of the queue with the same key has not ended, a second
                start returns that run.
            delay: seconds (or a timedelta) until it is due.
            at: the moment at which it is due, with a time zone.
            timeout: seconds (or a timedelta) after which the run, if it has not ended, is made to:
                it fails with RunTimeout. Counted from when it is due.
            metadata: JSON for searching and for extensions.
            session: a SQLAlchemy AsyncSession (or Session) on the same database: the run becomes
                part of its transaction, and of its rollback.

        Raises:
            UnknownWorkflowError: no such workflow or version.
            PayloadError: the input doesn't fit, or JSON can't carry it; PayloadTooLargeError beyond
                the limit.
            DatabaseUnavailableError: nothing was started. With a session, its own errors pass.
        """
        opened = self._open
        target = await self._target(workflow, version)
        check_start(queue, priority)
        await self._check_key(queue, key)
        _check_text(idempotency_key, "idempotency key")
        _check_text(deduplication_key, "deduplication key")
        columns, text = await self._draft(target, queue, priority, metadata)
        run = NewRun(
            id=new_run_id(), workflow=target.name, version=target.version, lane=target.lane,
            queue=queue, priority=priority, due=_moment(at, delay), delay=_delay(delay),
            timeout=_timeout(timeout), input=self._encode_input(target, input),
            metadata=text, key=self._own_key(key), idempotency_key=self._own_key(idempotency_key),
            deduplication_key=self._own_key(deduplication_key), columns=columns,
        )  # fmt: skip
        if session is not None:
            return await self._start_in(SessionStatements(session), run)
        while not await opened.store.insert_run(run):
            if (found := await opened.store.run_by_key(run)) is not None:
                return await self._theirs(found)  # else it ended or was pruned in between
        if run.due is None and run.delay is None:
            self._tell_of_work(queue)
        return run.id

    async def _start_in(self, statements: SessionStatements, run: NewRun) -> UUID:
        store = self._open.store
        insert = tuple(map(_portable, store.run_columns(run)))
        by_key = (run.workflow, run.idempotency_key, run.queue, run.deduplication_key)
        while not await statements.run(store, "insert_run", *insert):
            if found := await statements.run(store, "run_by_key", *by_key):
                return await self._theirs(UUID(str(found[0]["id"])), statements)
        if run.due is None and run.delay is None:
            statements.after_commit(lambda: self._wake(run.queue))
        return run.id

    def _wake(self, queue: str) -> None:
        if self._opened is not None:
            self._tell_of_work(queue)

    @overload
    async def start_many[I](
        self, workflow: Workflow[I, Any], inputs: Iterable[I], **options: Unpack[StartManyOptions]
    ) -> list[UUID]: ...
    @overload
    async def start_many(
        self, workflow: str, inputs: Iterable[Any], **options: Unpack[StartManyOptions]
    ) -> list[UUID]: ...
    @guarded("start")
    async def start_many(
        self,
        workflow: str | Workflow[Any, Any],
        inputs: Iterable[Any],
        *,
        version: int | None = None,
        queue: str = "default",
        priority: int = 0,
        key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        timeout: float | timedelta | None = None,
        metadata: dict[str, Any] | None = None,
        session: AnySession | None = None,
    ) -> list[UUID]:
        """Start a run for each input, all or none, in one statement; return the ids in the inputs'
        order.

        Arguments and errors are those of start().
        """
        target = await self._target(workflow, version)
        check_start(queue, priority)
        await self._check_key(queue, key)
        texts = [self._encode_input(target, value) for value in inputs]
        columns, text = await self._draft(target, queue, priority, metadata)
        if not texts:
            return []
        runs = NewRuns(
            ids=[new_run_id() for _ in texts], inputs=texts, workflow=target.name,
            version=target.version, lane=target.lane, queue=queue, priority=priority,
            due=_moment(at, delay), delay=_delay(delay), timeout=_timeout(timeout),
            metadata=text, key=self._own_key(key), columns=columns,
        )  # fmt: skip
        at_once = runs.due is None and runs.delay is None
        if session is not None:
            await self._start_many_in(SessionStatements(session), runs, at_once=at_once)
            return runs.ids
        await self._open.store.insert_runs(runs)
        if at_once:
            self._tell_of_work(queue)
        return runs.ids

    async def _start_many_in(
        self, statements: SessionStatements, runs: NewRuns, *, at_once: bool
    ) -> None:
        store = self._open.store
        ids = json.dumps([str(run_id) for run_id in runs.ids])
        texts = json.dumps([store.encode(text) for text in runs.inputs])
        values = map(_portable, store.view.values(runs.columns))
        columns = store.runs_columns(runs)
        await statements.run(store, "insert_runs", *columns, ids, texts, *values)
        if at_once:
            statements.after_commit(lambda: self._wake(runs.queue))

    @guarded("read")
    async def result(self, run_id: UUID | str, *, timeout: float | timedelta | None = None) -> Any:
        """Wait until a run has ended; return its output, or raise what it failed with.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds.
            RunFailed: it failed; also an instance of the original exception type where it can be.
            RunCancelled: it was cancelled.
            RunHalted: it stands still until somebody acts (its code no longer fits its journal,
                say).
            RunNotFoundError: there is no such run.
        """
        opened = self._open
        run_id = as_run_id(run_id)
        limit = None if timeout is None else seconds(timeout)
        outcome = await opened.results.wait(run_id, limit, opened.store)
        return outcome.unwrap(self._output_shape(outcome.workflow, outcome.version))

    @overload
    async def run[I, O](
        self, workflow: Workflow[I, O], input: I, **options: Unpack[RunOptions]
    ) -> O: ...
    @overload
    async def run[O](
        self, workflow: Workflow[None, O], input: None = None, **options: Unpack[RunOptions]
    ) -> O: ...
    @overload
    async def run(self, workflow: str, input: Any = None, **options: Unpack[RunOptions]) -> Any: ...
    @guarded("start")
    async def run(
        self, workflow: str | Workflow[Any, Any], input: Any = None, **options: Any
    ) -> Any:
        """Start a run and return its output: start() followed by result(), with their arguments and
        errors. ``timeout`` bounds the wait; the run goes on beyond it.
        """
        timeout = options.pop("timeout", None)
        return await self.result(await self.start(workflow, input, **options), timeout=timeout)


def _moment(at: datetime | None, delay: float | timedelta | None) -> float | None:
    if delay is not None and at is not None:
        raise ValueError("give delay= or at=, not both")
    if at is None:
        return None
    if at.tzinfo is None:
        raise ValueError(f"at={at.isoformat()} has no time zone: use datetime(..., tzinfo=UTC)")
    return at.timestamp()


def _delay(value: float | timedelta | None) -> float | None:
    return None if value is None else span(value, "delay")


def _timeout(value: float | timedelta | None) -> float | None:
    return None if value is None else positive(value, "timeout")


def _check_text(value: str | None, what: str) -> None:
    if value is not None and (not 1 <= len(value) <= 1000 or not value.isprintable()):
        raise ValueError(f"{what} {value!r:.120}: it must be 1 to 1000 printable characters")


def _portable(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
