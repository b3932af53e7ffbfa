# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Flow: the one object that a service makes. It holds the definitions, the way to the database, and
the workers.
"""

import asyncio
import contextlib
import signal as signals
import warnings
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, Protocol, Self, overload
from uuid import UUID

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.context import FlowContext
from forktex_core.flow.engine.results import Results
from forktex_core.flow.engine.wakeup import Notifier
from forktex_core.flow.engine.worker import Worker, WorkerSettings
from forktex_core.flow.errors import (
    DefinitionError,
    FlowNotOpenError,
    RunFinishedError,
    RunNotFoundError,
)
from forktex_core.flow.graph.graph import Graph
from forktex_core.flow.identity import new_run_id
from forktex_core.flow.retry import NO_RETRY, Retry, seconds
from forktex_core.flow.store.connection import Link, Pool, connect, plain_dsn
from forktex_core.flow.store.migrate import migrate
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Registry, Step, StepOptions, Workflow, check_name

type Body[I, O] = (
    Callable[[FlowContext, I], Coroutine[Any, Any, O]]
    | Callable[[FlowContext], Coroutine[Any, Any, O]]
)

_MAX_PRIORITY = 32767


class Flow:
    """Durable execution on one Postgres schema.

    Args:
        database_url: ``postgresql://…`` (a SQLAlchemy driver suffix like ``+asyncpg`` is fine).
        schema: the schema that the tables live in; made and migrated by open().
        direct_url: a way around a transaction pooler, for what needs a session (LISTEN, advisory
            locks).
        pooled: ``database_url`` is a transaction pooler: no session features there, no prepared
            statements.
        pool_size: connections for callers at most; a worker takes four more.
        max_payload_bytes: limit for each input, output, step result and signal payload, as JSON.

    Making a Flow does no I/O. Use ``async with flow:``, or open() and close().
    """

    def __init__(
        self,
        database_url: str,
        *,
        schema: str = "forktex_flow",
        direct_url: str | None = None,
        pooled: bool = False,
        pool_size: int = 10,
        max_payload_bytes: int = 2 * 1024 * 1024,
    ) -> None:
        self._opened: _Opened | None = None
        self.schema = schema
        self._dsn = plain_dsn(database_url)
        self._direct_dsn = None if direct_url is None else plain_dsn(direct_url)
        self._pooled = pooled
        self._pool_size = pool_size
        self._max_payload = max_payload_bytes
        self._registry = Registry()
        self._workers: list[Worker] = []

    # Definitions

    @overload
    def step[**P, R](
        self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> Step[P, R]: ...
    @overload
    def step[**P, R](self, fn: Callable[Concatenate[Any, P], R], /) -> Step[P, R]: ...
    @overload
    def step(
        self,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
        timeout: float | timedelta | None = None,
        deadline: float | timedelta | None = None,
    ) -> "_StepDecorator": ...
    def step(
        self,
        fn: Any = None,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
        timeout: float | timedelta | None = None,
        deadline: float | timedelta | None = None,
    ) -> Any:
        """Make a function a step: ``@flow.step``, or ``@flow.step(retries=..., timeout=...)``.

        The function takes a StepContext first. See StepOptions for the options.

        Raises:
            DefinitionError: the function or its name is not fit for a step.
        """
        options = StepOptions(name, retries, timeout, deadline)
        return (lambda function: Step(function, options)) if fn is None else Step(fn, options)

    def workflow[I, O](
        self, *, name: str | None = None, version: int = 1
    ) -> Callable[[Body[I, O]], Workflow[I, O]]:
        """Register an ``async def body(ctx)`` or ``body(ctx, input)`` as a workflow.

        Args:
            name: what runs are started by; the function's name by default.
            version: to be raised whenever the body changes in a way that replay would notice.

        Raises:
            DefinitionError: the body, name or version is not fit, or taken.
        """

        def register(fn: Body[I, O]) -> Workflow[I, O]:
            workflow: Workflow[I, O] = Workflow(
                fn, getattr(fn, "__name__", "") if name is None else name, version
            )
            self._registry.add(workflow)
            return workflow

        return register

    def register_graph(self, graph: Graph) -> None:
        """Register a graph as a workflow; raise DefinitionError with all that is wrong with it."""
        self._registry.add(graph.as_workflow())

    @property
    def workflows(self) -> list[Workflow[Any, Any]]:
        """What is registered here: workflows and compiled graphs, all versions of them."""
        return list(self._registry)

    # Life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, and bring the schema to this release's version. Does nothing when open already.

        Raises:
            DatabaseUnavailableError: the database can't be reached.
            SchemaTooNewError: a newer release migrated it.
        """
        if self._opened is not None:
            return
        connection = await connect(self._direct_dsn or self._dsn, "forktex-flow migrate")
        try:
            await migrate(connection, self.schema)
        finally:
            await connection.close()
        pool = Pool(self._dsn, self._pool_size, "forktex-flow", prepared=not self._pooled)
        await pool.open()
        self._opened = _Opened(self.schema, pool, self._link)

    async def close(self) -> None:
        """Stop the workers of this Flow and close all connections; safe to repeat."""
        for worker in list(self._workers):
            worker.stop()
        while self._workers:
            await self._workers[0].stopped.wait()
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            warnings.warn(
                f"Flow on {self.schema!r} was not closed: use 'async with flow:'",
                ResourceWarning,
                stacklevel=2,
            )

    @property
    def _open(self) -> "_Opened":
        if self._opened is None:
            raise FlowNotOpenError
        return self._opened

    def _link(self, purpose: str) -> Link:
        dsn = self._dsn if self._direct_dsn is None else self._direct_dsn
        prepared = not self._pooled or self._direct_dsn is not None
        return Link(dsn, f"forktex-flow {purpose}", prepared=prepared)

    # Runs

    async def start(
        self,
        workflow: str | Workflow[Any, Any],
        input: Any = None,
        *,
        idempotency_key: str | None = None,
        version: int | None = None,
        queue: str = "default",
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> UUID:
        """Start a run and return its id (a UUIDv7).

        Args:
            workflow: the workflow, or its name.
            input: what the body takes after ``ctx``.
            idempotency_key: a second start of the workflow with the same key returns the first
                one's run.
            version: the newest by default.
            queue: workers of that queue run it.
            priority: higher goes first within a queue.
            delay: seconds (or a timedelta) until it is due.
            at: the moment at which it is due, with a time zone.
            metadata: JSON for searching and for extensions.

        Raises:
            UnknownWorkflowError: no such workflow or version.
            PayloadError: the input doesn't fit, or JSON can't carry it; PayloadTooLargeError beyond
                the limit.
            DatabaseUnavailableError: nothing was started.
        """
        opened = self._open
        target = await self._target(workflow, version)
        due = _due(delay, at)
        _check_start(queue, priority)
        run_id = new_run_id()
        row = (
            run_id, target.name, target.version, target.lane, queue, priority, due,
            self._encode_input(target, input), self._encode_metadata(metadata), idempotency_key,
        )  # fmt: skip
        if not await opened.store.insert_run(*row):
            assert idempotency_key is not None
            found = await opened.store.run_by_idempotency_key(target.name, idempotency_key)
            if found is not None:
                return found
            return await self.start(  # it was pruned in between
                workflow, input, idempotency_key=idempotency_key, version=version, queue=queue,
                priority=priority, delay=delay, at=at, metadata=metadata,
            )  # fmt: skip
        if due is None:
            self._tell_of_work(queue)
        return run_id

    async def start_many(
        self,
        workflow: str | Workflow[Any, Any],
        inputs: Iterable[Any],
        *,
        version: int | None = None,
        queue: str = "default",
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[UUID]:
        """Start a run for each input, all or none, in one statement; return the ids in the inputs'
        order.

        Arguments and errors are those of start().
        """
        opened = self._open
        target = await self._target(workflow, version)
        due = _due(delay, at)
        _check_start(queue, priority)
        texts = [self._encode_input(target, value) for value in inputs]
        ids = [new_run_id() for _ in texts]
        if ids:
            shared = self._encode_metadata(metadata)
            await opened.store.insert_runs(
                target.name, target.version, target.lane, queue, priority, due, shared, ids, texts
            )
        if ids and due is None:
            self._tell_of_work(queue)
        return ids

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
        run_id = _uuid(run_id)
        outcome = await opened.results.wait(run_id, None if timeout is None else seconds(timeout))
        return outcome.unwrap(self._output_shape(outcome.workflow, outcome.version))

    async def run(
        self, workflow: str | Workflow[Any, Any], input: Any = None, **options: Any
    ) -> Any:
        """Start a run and return its output: start() followed by result(), with their arguments and
        errors.
        """
        timeout = options.pop("timeout", None)
        return await self.result(await self.start(workflow, input, **options), timeout=timeout)

    async def send_signal(
        self,
        run_id: UUID | str,
        name: str,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
    ) -> bool:
        """Send a signal to a run. It is kept until the run waits for it, and delivered once, in
        order.

        Args:
            run_id: the run.
            name: what the run waits for.
            payload: any JSON value, or what pydantic makes JSON of.
            idempotency_key: a second signal to the run with the same key is dropped.

        Returns:
            False when the key was used before.

        Raises:
            RunNotFoundError: there is no such run.
            RunFinishedError: the run has ended.
            PayloadError: the payload can't be carried.
        """
        opened = self._open
        run_id = _uuid(run_id)
        check_name(name, "signal")
        text = Shape(type(payload)).encode(
            payload, f"the payload of signal {name!r}", self._max_payload
        )
        sent = await opened.store.send_signal(run_id, name, text, idempotency_key)
        if sent["outcome"] == "unknown":
            raise RunNotFoundError(run_id)
        if sent["outcome"] == "finished":
            raise RunFinishedError(run_id, sent["status"], f"it takes no signal {name!r} any more")
        if sent["outcome"] == "sent":
            self._tell_of_signal(run_id, sent)
        return bool(sent["outcome"] == "sent")

    # Workers

    async def run_worker(
        self,
        settings: WorkerSettings | None = None,
        *,
        handle_signals: bool = False,
        **changes: Any,
    ) -> None:
        """Serve every registered workflow until cancelled.

        Args:
            settings: how to work; fields of WorkerSettings may also be given one by one.
            handle_signals: stop in good order on SIGTERM and SIGINT, at once on a second one.
        """
        opened = self._open
        if not list(self._registry):
            raise DefinitionError(
                "this Flow has no workflow to serve: register one before run_worker()"
            )
        worker = Worker(
            replace(settings or WorkerSettings(), **changes),
            self._registry,
            schema=self.schema,
            link=self._link,
            pool_store=opened.store,
            notifier=opened.notifier,
            max_payload=self._max_payload,
            session_lock=not self._pooled or self._direct_dsn is not None,
            on_finished=opened.results.ended_here,
        )
        self._workers.append(worker)
        try:
            with _stopping_on_signals(worker) if handle_signals else contextlib.nullcontext():
                await worker.run()
        finally:
            self._workers.remove(worker)
            worker.stopped.set()

    # Within

    async def _target(self, workflow: str | Workflow[Any, Any], version: int | None) -> "_Target":
        name = workflow if isinstance(workflow, str) else workflow.name
        if not isinstance(workflow, str) and version is None:
            version = workflow.version
        found = self._registry.find(name, version)
        if found is not None:
            return _Target(found.name, found.version, found.lane, found)
        row = await self._open.store.latest_definition(name, version)
        if row is None:
            raise self._registry.unknown(name, version)
        return _Target(name, row["version"], row["lane"], None)

    def _encode_input(self, target: "_Target", value: Any) -> str:
        what = f"the input of {target.name!r}"
        if target.workflow is None:
            return ANY.encode(value, what, self._max_payload)
        shape = target.workflow.input_shape
        if shape is None:
            if value is not None:
                raise DefinitionError(
                    f"workflow {target.name!r} takes no input, but {type(value).__name__!r} "
                    "was given"
                )
            return "null"
        return shape.encode(shape.validate(value, what), what, self._max_payload)

    def _encode_metadata(self, metadata: dict[str, Any] | None) -> str:
        return ANY.encode(metadata or {}, "metadata", self._max_payload)

    def _output_shape(self, name: str, version: int) -> Shape:
        workflow = self._registry.find(name, version)
        return ANY if workflow is None else workflow.output_shape

    def _tell_of_work(self, queue: str) -> None:
        for worker in self._workers:
            worker.local_work(queue)
        self._open.notifier.work(queue)

    def _tell_of_signal(self, run_id: UUID, sent: Any) -> None:
        if sent["worker_id"] is None:
            self._tell_of_work(sent["queue"])
            return
        for worker in self._workers:
            worker.local_signal(run_id)
        self._open.notifier.signalled(sent["worker_id"], run_id)


class _StepDecorator(Protocol):
    @overload
    def __call__[**P, R](
        self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> Step[P, R]: ...
    @overload
    def __call__[**P, R](self, fn: Callable[Concatenate[Any, P], R], /) -> Step[P, R]: ...


class _Opened:
    """What exists only while a Flow is open."""

    def __init__(self, schema: str, pool: Pool, link: Callable[[str], Link]) -> None:
        self.pool = pool
        self.store = Store(pool, schema)
        self.notifier = Notifier(self.store, schema)
        self.results = Results(self.store, schema, link)

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.notifier.flush(), 5)
        await self.results.close()
        await self.pool.close()


class _Target:
    __slots__ = ("lane", "name", "version", "workflow")

    def __init__(
        self, name: str, version: int, lane: str, workflow: Workflow[Any, Any] | None
    ) -> None:
        self.name, self.version, self.lane, self.workflow = name, version, lane, workflow


def _due(delay: float | timedelta | None, at: datetime | None) -> datetime | None:
    if delay is not None and at is not None:
        raise ValueError("give delay= or at=, not both")
    if delay is not None:
        return datetime.now(UTC) + timedelta(seconds=seconds(delay))
    if at is not None and at.tzinfo is None:
        raise ValueError(f"at={at.isoformat()} has no time zone: use datetime(..., tzinfo=UTC)")
    return at


def _check_start(queue: str, priority: int) -> None:
    check_name(queue, "queue")
    if not -_MAX_PRIORITY <= priority <= _MAX_PRIORITY:
        raise ValueError(
            f"priority must lie between -{_MAX_PRIORITY} and {_MAX_PRIORITY}, not {priority}"
        )


def _uuid(run_id: UUID | str) -> UUID:
    if isinstance(run_id, UUID):
        return run_id
    try:
        return UUID(run_id)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"a run id is a UUID, not {run_id!r}") from error


@contextlib.contextmanager
def _stopping_on_signals(worker: Worker) -> Any:
    loop = asyncio.get_running_loop()
    for number in (signals.SIGTERM, signals.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        yield
    finally:
        for number in (signals.SIGTERM, signals.SIGINT):
            loop.remove_signal_handler(number)
