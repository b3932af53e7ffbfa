# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What all parts of a Flow that call the database share: the definitions, the open connections, and
how values travel.
"""

import asyncio
import contextlib
import copy
import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.engine.results import Results
from forktex_core.flow.engine.transaction import Transactions
from forktex_core.flow.engine.wakeup import Notifier
from forktex_core.flow.engine.watching import Watching
from forktex_core.flow.engine.worker import Worker
from forktex_core.flow.errors import (
    AccessDeniedError,
    DefinitionError,
    FlowNotOpenError,
    PayloadError,
)
from forktex_core.flow.extending import Extensions
from forktex_core.flow.extension import Action, RunDraft, RunView
from forktex_core.flow.gate import check
from forktex_core.flow.inspect.stream import Streams
from forktex_core.flow.session import SessionStatements
from forktex_core.flow.store.base import Codec
from forktex_core.flow.store.connection import Link, Pool
from forktex_core.flow.store.control import ControlStore
from forktex_core.flow.store.graphs import GraphStore
from forktex_core.flow.store.inspection import InspectionStore
from forktex_core.flow.store.passage import Passage
from forktex_core.flow.store.queues import QueueStore
from forktex_core.flow.store.retention import RetentionStore
from forktex_core.flow.store.schedules import ScheduleStore
from forktex_core.flow.store.store import Store
from forktex_core.flow.store.view import View
from forktex_core.flow.workflow import Registry, Workflow, check_name, check_priority

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_NOBODY = (
    "this Flow has extensions that restrict who may do what: say who asks, flow.as_(principal), or "
    "flow.as_(SYSTEM) for the service itself"
)


class Opened:
    """What exists only while a Flow is open."""

    def __init__(
        self,
        schema: str,
        pool: Pool,
        link: Callable[[str], Link],
        *,
        codec: Codec | None,
        extensions: Extensions,
        listen: bool,
        transactions: Callable[[Store], Transactions],
    ) -> None:
        self.pool = pool
        watching = Watching(extensions) if extensions.watches else None
        extended = extensions.columns or extensions.watches
        passage = Passage(View(extensions.columns), watching) if extended else None
        self._bind(Store(pool, schema, codec, passage))
        self._watching = watching
        self.transactions = transactions(self.store.through(self.engine_passage))
        self.streams = Streams(schema, link, listen=listen)
        self.notifier = Notifier(self.store, schema)
        self.results = Results(self.store, schema, link, listen=listen)
        self.keyed_queues: set[str] = set()

    @property
    def engine_passage(self) -> Passage | None:
        """What the engine's own statements go through."""
        passage = self.store.passage
        if passage is None or self._watching is None:
            return passage
        return Passage(passage.view, self._watching.lenient())

    def _bind(self, store: Store) -> None:
        self.store = store
        self.control = store.beside(ControlStore)
        self.queues = store.beside(QueueStore)
        self.schedules = store.beside(ScheduleStore)
        self.graphs = store.beside(GraphStore)
        self.retention = store.beside(RetentionStore)
        self.inspection = store.beside(InspectionStore)

    def seen_by(self, view: View) -> "Opened":
        """Return the same connections, with queries as a principal's view has them."""
        seen = copy.copy(self)
        seen._bind(self.store.seen_by(view))  # noqa: SLF001 - of the same class
        return seen

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.notifier.flush(), 5)
        await self.streams.close()
        await self.results.close()
        if self._watching is not None:
            await self._watching.close()
        await self.transactions.close()
        await self.pool.close()


class Target:
    __slots__ = ("lane", "name", "version", "workflow")

    def __init__(
        self, name: str, version: int, lane: str, workflow: Workflow[Any, Any] | None
    ) -> None:
        self.name, self.version, self.lane, self.workflow = name, version, lane, workflow


class Client:
    """The base of Flow's parts: see starting.py and control.py."""

    _opened: Opened | None
    _registry: Registry
    _workers: list[Worker]
    _max_payload: int
    _extensions: Extensions
    _principal: Any = None
    _acts = False
    _passes: set[tuple[Action, UUID]]
    schema: str

    @property
    def _trusted(self) -> Opened:
        """What is open, for the engine's own work: see gate.py for that of callers."""
        if self._opened is None:
            raise FlowNotOpenError
        return self._opened

    @property
    def _open(self) -> Opened:
        opened = self._trusted
        if self._extensions.guards:
            raise AccessDeniedError("anything", _NOBODY)
        return opened

    # The gate: see gate.py

    @property
    def _client(self) -> "Client":
        return self

    def _on(self, client: "Client") -> Any:
        return client

    def _passed(self, action: Action) -> "Client":
        raise AccessDeniedError(action, _NOBODY)

    async def _view_of(self, run_id: UUID, session: Any = None) -> RunView | None:
        """Return a run as authorization sees it, None when it isn't there for the principal."""
        store = self._open.store
        if session is None:
            row = await store.run_view(run_id)
        else:
            statements = session if isinstance(session, SessionStatements) else None
            statements = statements or SessionStatements(session)
            rows = await statements.run(store, "run_view", str(run_id))
            row = rows[0] if rows else None
        if row is None:
            return None
        return RunView(
            id=run_id, workflow=row["workflow"], version=row["version"], queue=row["queue"],
            status=row["status"], metadata=json.loads(row["metadata"]),
            columns=store.view.load(row["columns"]),
        )  # fmt: skip

    async def _draft(
        self, target: "Target", queue: str, priority: int, metadata: dict[str, Any] | None
    ) -> tuple[dict[str, Any], str]:
        """Let the extensions fill the columns of a new run, and say whether it may be started;
        return the columns and the metadata's text.
        """
        extensions = self._extensions
        if extensions.empty:
            return {}, self._encode_metadata(metadata)
        draft = RunDraft(
            principal=self._principal, workflow=target.name, version=target.version, queue=queue,
            priority=priority, metadata=dict(metadata or {}),
        )  # fmt: skip
        await extensions.fill(draft)
        text = self._encode_metadata(draft.metadata)
        view = RunView(
            id=None, workflow=target.name, version=target.version, queue=queue, status=None,
            metadata=draft.metadata, columns=draft.columns,
        )  # fmt: skip
        await check(self, "start", view)
        return draft.columns, text

    def _own_key(self, name: str | None) -> str | None:
        return None if name is None else self._own(name)

    def _own(self, name: str) -> str:
        """Return what a name is called in the database: in the principal's namespace."""
        prefix = self._prefix
        return f"{prefix}{name}" if prefix else name

    def _shown(self, name: str) -> str:
        """Return what a name in the database is to the principal."""
        return name.removeprefix(self._prefix)

    @property
    def _prefix(self) -> str:
        namespace = None if self._extensions.empty else self._open.store.view.namespace
        return "" if namespace is None else f"@{namespace}/"

    async def _target(self, workflow: str | Workflow[Any, Any], version: int | None) -> "Target":
        name = workflow if isinstance(workflow, str) else workflow.name
        if name.startswith("@"):
            return await self._stored_target(name, version)
        if not isinstance(workflow, str) and version is None:
            version = workflow.version
        found = self._registry.find(name, version)
        if found is not None:
            return Target(found.name, found.version, found.lane, found)
        row = await self._open.store.latest_definition(name, version)
        if row is None:
            raise self._registry.unknown(name, version)
        return Target(name, row["version"], row["lane"], None)

    async def _theirs(self, run_id: UUID, statements: SessionStatements | None = None) -> UUID:
        """Return the run that holds a key, if it is there for who asks."""
        if self._extensions.guards and await self._view_of(run_id, statements) is None:
            raise AccessDeniedError("start", "the key is taken by a run of somebody else's")
        return run_id

    async def _fetch_graph(self, namespace: str, name: str, version: int) -> str | None:
        return await self._open.graphs.graph_document(namespace, name, version)

    async def _stored_target(self, workflow: str, version: int | None) -> "Target":
        raise NotImplementedError  # definitions.py

    def _encode_input(self, target: "Target", value: Any) -> str:
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
        if not isinstance(metadata, dict | None):
            raise PayloadError(f"metadata must be a dict, not {type(metadata).__name__!r}")
        text = ANY.encode(metadata or {}, "metadata", self._max_payload)
        if _NUL.search(text):
            raise PayloadError(
                "metadata holds a NUL character, which Postgres can't search: drop it"
            )
        return text

    def _output_shape(self, name: str, version: int) -> Shape:
        workflow = self._registry.find(name, version)
        return ANY if workflow is None else workflow.output_shape

    async def _check_key(self, queue: str, key: str | None) -> None:
        """A queue that is used with keys has a row; this process makes sure of it once."""
        if key is None:
            return
        check_name(key, "key")
        if queue not in self._open.keyed_queues:
            await self._open.queues.ensure_queue(queue)
            self._open.keyed_queues.add(queue)

    def _tell_of_revocation(self, worker_id: int | None) -> None:
        if worker_id is None:
            return
        for worker in self._workers:
            if worker.worker_id == worker_id:
                worker.local_revocation()
        self._open.notifier.revoked(worker_id)

    def _tell_of_work(self, queue: str) -> None:
        for worker in self._workers:
            worker.local_work(queue)
        self._open.notifier.work(queue)

    def _tell_of_signal(self, run_id: UUID, sent: Any) -> None:
        if sent["worker_id"] is None:
            self._tell_of_work(sent["queue"])
            return
        for worker in self._workers:
            if worker.worker_id == sent["worker_id"]:
                worker.local_signal(run_id)
                return
        self._open.notifier.signalled(sent["worker_id"], run_id)


def check_start(queue: str, priority: int) -> None:
    """Raise DefinitionError or ValueError when a queue or a priority can't be."""
    check_name(queue, "queue")
    check_priority(priority)
