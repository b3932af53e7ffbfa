# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Flow: the one object that a service makes. It holds the definitions, the way to the database, and
the workers.
"""

import asyncio
import contextlib
import signal as signals
import warnings
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Concatenate, Protocol, Self, overload

from forktex_core.flow.acting import ActingFlow
from forktex_core.flow.client import Opened
from forktex_core.flow.context import FlowContext
from forktex_core.flow.definitions import Defining
from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.engine.settings import WorkerSettings
from forktex_core.flow.engine.transaction import Transactions
from forktex_core.flow.engine.worker import Worker
from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.extending import Extensions
from forktex_core.flow.extension import AnyExtension
from forktex_core.flow.graph.definition import Graph
from forktex_core.flow.inspect.inspecting import Inspecting
from forktex_core.flow.offering import Offering
from forktex_core.flow.queueing import Queueing
from forktex_core.flow.retaining import Retaining
from forktex_core.flow.retry import NO_RETRY, Retry
from forktex_core.flow.scheduling import Scheduling
from forktex_core.flow.starting import Starting
from forktex_core.flow.store.base import Codec
from forktex_core.flow.store.columns import add_columns
from forktex_core.flow.store.connection import Link, Pool, address, connect, plain_dsn
from forktex_core.flow.store.migrate import check
from forktex_core.flow.store.migrate import migrate as bring_up
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import (
    CANCEL_GRACE,
    Durability,
    Registry,
    Step,
    StepOptions,
    Workflow,
)


class Flow(Starting, Offering, Defining, Queueing, Scheduling, Retaining, Inspecting):
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
        codec: two functions from str to str, (encode, decode), that every value passes on its way
            to the database and back: to encrypt or compress. Metadata and names are not encoded.
        extensions: objects with hooks of FlowExtension, asked in this order.

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
        codec: Codec | None = None,
        extensions: Sequence[AnyExtension] = (),
    ) -> None:
        self._opened: Opened | None = None
        self._extensions = Extensions(extensions)
        self.schema = schema
        self._dsn = plain_dsn(database_url)
        self._direct_dsn = None if direct_url is None else plain_dsn(direct_url)
        self._pooled = pooled
        self._pool_size = pool_size
        self._max_payload = max_payload_bytes
        self._codec = codec
        self._registry = Registry()
        self._workers: list[Worker] = []
        self._outage = Outage()

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
        transactional: bool = False,
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
        transactional: bool = False,
    ) -> Any:
        """Make a function a step: ``@flow.step``, or ``@flow.step(retries=..., timeout=...)``.

        The function takes a StepContext first. See StepOptions for the options.

        Raises:
            DefinitionError: the function or its name is not fit for a step.
        """
        options = StepOptions(name, retries, timeout, deadline, transactional)
        return (lambda function: Step(function, options)) if fn is None else Step(fn, options)

    def workflow(
        self,
        *,
        name: str | None = None,
        version: int = 1,
        durability: Durability = "commit",
        cancel_grace: float | timedelta = CANCEL_GRACE,
    ) -> "_WorkflowDecorator":
        """Register an ``async def body(ctx)`` or ``body(ctx, input)`` as a workflow.

        Args:
            name: what runs are started by; the function's name by default.
            version: to be raised whenever the body changes in a way that replay would notice.
            durability: ``commit``: a step's result is durable before the body goes on.
                ``pipelined``: the body goes on at once; a crash repeats the steps of the last
            moments. cancel_grace: seconds (or a timedelta) that a cancelled body has to clean up;
                then it is dropped and its compensations run.

        Raises:
            DefinitionError: the body, name or version is not fit, or taken.
        """

        def register(fn: Any) -> Workflow[Any, Any]:
            workflow: Workflow[Any, Any] = Workflow(
                fn,
                getattr(fn, "__name__", "") if name is None else name,
                version,
                durability=durability,
                cancel_grace=cancel_grace,
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

    def as_(self, principal: Any) -> ActingFlow:
        """Return the calls of this Flow as a principal may make them: whatever the extensions take
        for one (a user, a token's claims), or SYSTEM for the service itself.

        With an extension that restricts anybody, this is the only way: a call on the Flow itself
        is refused.
        """
        return ActingFlow(self, principal)

    # Life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self, *, migrate: bool = True) -> None:
        """Connect, and bring the schema to this release's version. Does nothing when open already.

        Args:
            migrate: False changes nothing, and refuses a schema of another version: for tools
                that look at a database which is not theirs to change.

        Raises:
            DatabaseUnavailableError: the database can't be reached.
            SchemaTooNewError: a newer release migrated it.
            NoSchemaError, SchemaTooOldError: there is none, or an older one, and ``migrate`` is
                False.
        """
        if self._opened is not None:
            return
        session = not self._pooled or self._direct_dsn is not None
        dsn = self._direct_dsn or self._dsn
        connection = await connect(dsn, "forktex-flow migrate", session=session)
        try:
            if migrate:
                await bring_up(connection, self.schema)
                await self._add_columns(connection, session=session)
            else:
                await check(connection, self.schema, address(dsn))
        finally:
            await connection.close()
        pool = Pool(self._dsn, self._pool_size, "forktex-flow", prepared=not self._pooled)
        await pool.open()
        self._opened = Opened(
            self.schema, pool, self._link, codec=self._codec, listen=session,
            transactions=self._transactions, extensions=self._extensions,
        )  # fmt: skip

    async def close(self) -> None:
        """Stop the workers of this Flow and close all connections; safe to repeat."""
        self.stop_workers()
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

    async def _add_columns(self, connection: Any, *, session: bool) -> None:
        extensions = self._extensions
        if extensions.columns or extensions.watches:
            await add_columns(
                connection, self.schema, extensions.columns,
                watched=extensions.watches, session=session,
            )  # fmt: skip

    def _transactions(self, store: Store) -> Transactions:
        return Transactions(
            self._dsn, store, self._outage, prepared=not self._pooled, size=self._pool_size
        )

    def _link(self, purpose: str) -> Link:
        dsn = self._dsn if self._direct_dsn is None else self._direct_dsn
        prepared = not self._pooled or self._direct_dsn is not None
        return Link(dsn, f"forktex-flow {purpose}", prepared=prepared)

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
        opened = self._trusted
        if not list(self._registry) and self._registry.stored is None:
            raise DefinitionError(
                "this Flow has no workflow to serve: register one before run_worker()"
            )
        worker = Worker(
            replace(settings or WorkerSettings(), **changes),
            self._registry,
            schema=self.schema,
            link=self._link,
            pool_store=opened.store.through(opened.engine_passage),
            notifier=opened.notifier,
            max_payload=self._max_payload,
            session_lock=not self._pooled or self._direct_dsn is not None,
            on_finished=opened.results.ended_here,
            on_known=opened.results.known,
            transactions=opened.transactions,
            outage=self._outage,
            export=lambda: self._exporter,
        )
        self._workers.append(worker)
        try:
            with _stopping_on_signals(worker) if handle_signals else contextlib.nullcontext():
                await worker.run()
        finally:
            self._workers.remove(worker)
            worker.stopped.set()

    def stop_workers(self) -> None:
        """Stop the workers that run in this process in good order; called again, at once."""
        for worker in list(self._workers):
            worker.stop()


class _WorkflowDecorator(Protocol):
    @overload
    def __call__[I, O](
        self, fn: Callable[[FlowContext, I], Coroutine[Any, Any, O]], /
    ) -> Workflow[I, O]: ...
    @overload
    def __call__[O](
        self, fn: Callable[[FlowContext], Coroutine[Any, Any, O]], /
    ) -> Workflow[None, O]: ...


class _StepDecorator(Protocol):
    @overload
    def __call__[**P, R](
        self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> Step[P, R]: ...
    @overload
    def __call__[**P, R](self, fn: Callable[Concatenate[Any, P], R], /) -> Step[P, R]: ...


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
