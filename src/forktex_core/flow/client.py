# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What all parts of a Flow that call the database share: the definitions, the open connections, and
how values travel.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.engine.results import Results
from forktex_core.flow.engine.transaction import Transactions
from forktex_core.flow.engine.wakeup import Notifier
from forktex_core.flow.engine.worker import Worker
from forktex_core.flow.errors import DefinitionError, FlowNotOpenError
from forktex_core.flow.inspect.stream import Streams
from forktex_core.flow.store.base import Codec
from forktex_core.flow.store.connection import Link, Pool
from forktex_core.flow.store.control import ControlStore
from forktex_core.flow.store.graphs import GraphStore
from forktex_core.flow.store.inspection import InspectionStore
from forktex_core.flow.store.queues import QueueStore
from forktex_core.flow.store.retention import RetentionStore
from forktex_core.flow.store.schedules import ScheduleStore
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Registry, Workflow, check_name, check_priority


class Opened:
    """What exists only while a Flow is open."""

    def __init__(
        self,
        schema: str,
        pool: Pool,
        link: Callable[[str], Link],
        *,
        codec: Codec | None,
        listen: bool,
        transactions: Callable[[Store], Transactions],
    ) -> None:
        self.pool = pool
        self.store = Store(pool, schema, codec)
        self.transactions = transactions(self.store)
        self.control = self.store.beside(ControlStore)
        self.queues = self.store.beside(QueueStore)
        self.schedules = self.store.beside(ScheduleStore)
        self.graphs = self.store.beside(GraphStore)
        self.retention = self.store.beside(RetentionStore)
        self.inspection = self.store.beside(InspectionStore)
        self.streams = Streams(schema, link, listen=listen)
        self.notifier = Notifier(self.store, schema)
        self.results = Results(self.store, schema, link, listen=listen)
        self.keyed_queues: set[str] = set()

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.notifier.flush(), 5)
        await self.streams.close()
        await self.results.close()
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
    schema: str

    @property
    def _open(self) -> Opened:
        if self._opened is None:
            raise FlowNotOpenError
        return self._opened

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
        return ANY.encode(metadata or {}, "metadata", self._max_payload)

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
