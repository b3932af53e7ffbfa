# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""For the tests of those who use queues: jobs run inline without a server, or against an
embedded one."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from forktex_core.queue.context import JobContext, running
from forktex_core.queue.envelope import BatchStart, Envelope
from forktex_core.queue.message import BATCH_RESULT, Message
from forktex_core.queue.queue import Queue


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that ran inline."""

    name: str
    arguments: dict[str, Any]
    result: Any


@dataclass
class Inline:
    """The transport that runs jobs where they are enqueued; ``jobs``: what ran, in order.

    Arguments and results pass through JSON as they would. Delays, priorities, retries, limits and
    unique keys are
    ignored; what a job raises is raised by ``enqueue``."""

    queue: Queue
    state: dict[str, Any]
    jobs: list[Ran] = field(default_factory=list)

    async def submit(
        self, envelopes: Sequence[Envelope], batch: BatchStart | None = None
    ) -> list[str]:
        """See `Transport`."""
        for envelope in envelopes:
            await self._run(envelope.message)
        if batch is not None and batch.callback is not None:
            batch.callback.options[BATCH_RESULT] = [len(envelopes), 0]
            await self._run(batch.callback)
        return [""] * len(envelopes)

    async def close(self) -> None:
        """See `Transport`."""

    async def _run(self, message: Message) -> None:
        definition = self.queue.find(message.name).definition
        args, kwargs = definition.arguments.decode(message.arguments)
        token = running.set(JobContext(self.queue, message, self.state))
        try:
            result = definition.function(*args, **kwargs)
            if definition.awaits:
                result = await result
        finally:
            running.reset(token)
        self.jobs.append(Ran(message.name, json.loads(message.arguments), result))


@contextmanager
def inline(queue: Queue, **state: Any) -> Iterator[Inline]:
    """Run the queue's jobs inline within the block, with ``state`` as if start-up hooks had set
    it."""
    before, queue.transport = queue.transport, Inline(queue, state)
    try:
        yield queue.transport
    finally:
        queue.transport = before


@asynccontextmanager
async def embedded() -> AsyncIterator[str]:
    """The URL of a real server that lives as long as the block. Needs ``forktex-
    core[embedded]``."""
    servers = import_module("forktex_core.embedded")  # by name: no module imports a sibling
    async with servers.EmbeddedRedis() as server:
        yield server.url


async def drain(queue: Queue, *, concurrency: int = 10) -> None:
    """Run everything that can be taken now, in this process, and what it enqueues."""
    await queue.process(concurrency=concurrency, burst=True, signals=False)
