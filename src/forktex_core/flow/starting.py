# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Starting runs, and waiting for what becomes of them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from forktex_core.flow.client import Client, run_uuid
from forktex_core.flow.identity import new_run_id
from forktex_core.flow.retry import seconds
from forktex_core.flow.workflow import Workflow, check_name

_MAX_PRIORITY = 32767


class Starting(Client):
    """The part of Flow that starts runs."""

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
        run_id = run_uuid(run_id)
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
