# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What may be done to a run from outside.

A run that a worker holds is taken from it under the worker's row lock (store/migrations/
0011_control.sql); the worker is told, drops what it executes of it and claims it no more until
nothing of it is under way there. The database functions decide; here their outcomes become errors.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from forktex_core.flow.client import Client
from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.engine.outcome import CANCEL_SIGNAL, cancellation
from forktex_core.flow.errors import (
    DefinitionError,
    RunConflictError,
    RunFinishedError,
    RunNotFoundError,
)
from forktex_core.flow.gate import guarded
from forktex_core.flow.identity import as_run_id, new_run_id
from forktex_core.flow.session import AnySession, SessionStatements
from forktex_core.flow.setback import Recorded, entry_of, failing_entry, recorded
from forktex_core.flow.transitions import IllegalTransitionError
from forktex_core.flow.workflow import check_name

_UNFINISHED = ["pending", "running", "waiting", "paused"]


@dataclass(frozen=True, slots=True)
class Unserved:
    """Unfinished runs that no living worker serves.

    Args:
        first_runs: ids of the oldest, ten at most.
    """

    workflow: str
    version: int
    queue: str
    runs: int
    oldest: datetime
    first_runs: list[UUID]


class Control(Client):
    """The part of Flow that acts on runs."""

    @guarded("signal")
    async def send_signal(
        self,
        run_id: UUID | str,
        name: str,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
        session: AnySession | None = None,
    ) -> bool:
        """Send a signal to a run. It is kept until the run waits for it, and delivered once, in
        order.

        Args:
            run_id: the run.
            name: what the run waits for.
            payload: any JSON value, or what pydantic makes JSON of.
            idempotency_key: a second signal to the run with the same key is dropped.
            session: a SQLAlchemy session on the same database: the signal becomes part of its
                transaction. The run's row stays locked until that ends.

        Returns:
            False when the key was used before.

        Raises:
            RunNotFoundError: there is no such run.
            RunFinishedError: the run has ended.
            PayloadError: the payload can't be carried.
            DefinitionError: the name can't be a signal's; those that begin with ``$`` are the
                engine's own.
        """
        opened = self._open
        run_id = as_run_id(run_id)
        _check_signal(name)
        text = Shape(type(payload)).encode(
            payload, f"the payload of signal {name!r}", self._max_payload
        )
        if session is None:
            sent = await opened.store.send_signal(run_id, name, text, idempotency_key)
        else:
            statements = SessionStatements(session)
            stored = opened.store.encode_signal(name, text)
            arguments = (str(run_id), name, stored, idempotency_key)
            sent = (await statements.run(opened.store, "send_signal", *arguments))[0]
        if sent["outcome"] == "unknown":
            raise RunNotFoundError(run_id)
        if sent["outcome"] == "finished":
            raise RunFinishedError(run_id, sent["status"], f"it takes no signal {name!r} any more")
        if sent["outcome"] == "sent":
            if session is None:
                self._tell_of_signal(run_id, sent)
            else:
                statements.after_commit(lambda: self._wake_run(run_id, sent))
        return bool(sent["outcome"] == "sent")

    def _wake_run(self, run_id: UUID, sent: Any) -> None:
        if self._opened is not None:
            self._tell_of_signal(run_id, sent)

    @guarded("cancel")
    async def cancel(
        self, run_id: UUID | str, reason: str | None = None, *, force: bool = False
    ) -> bool:
        """Ask a run to stop. Its body sees asyncio.CancelledError where it waits, or its step at
        the step's next await, and may clean up with durable steps; then it ends as cancelled, and
        result() raises RunCancelled. A run that has not begun ends at once.

        Args:
            run_id: the run.
            reason: why, for the error and for views.
            force: end it at once, without clean-up or compensations.

        Returns:
            False when it had ended already.

        Raises:
            RunNotFoundError: there is no such run.
        """
        opened = self._open
        run_id = as_run_id(run_id)
        payload = cancellation("terminate" if force else "cancel", reason)
        told = await opened.store.put_signals([(run_id, CANCEL_SIGNAL, payload)])
        if not told and await opened.store.run_status(run_id) is None:
            raise RunNotFoundError(run_id)
        ended = [w.run_id for w in told if w.part == "e" and w.run_id is not None]
        if ended:
            opened.results.ended_here(ended)
            opened.notifier.done(ended)
        for w in told:
            if w.part == "w" and w.run_id is not None:
                self._tell_of_signal(w.run_id, {"worker_id": w.worker_id, "queue": w.queue})
        return bool(told)

    @guarded("pause")
    async def pause(self, run_id: UUID | str, *, by: str | None = None) -> None:
        """Let an unfinished run stand still until resume(). A step that is being executed is
        interrupted, and executed again then; signals are kept meanwhile, and a timeout passes.

        Args:
            run_id: the run.
            by: who pauses it, for views and explain().

        Raises:
            RunNotFoundError: there is no such run.
            RunFinishedError: the run has ended.
            IllegalTransitionError: the run is paused already.
        """
        run_id = as_run_id(run_id)
        done = await _settled(lambda: self._open.control.pause_run(run_id, by))
        self._check(
            run_id, done, "paused", "it can't be paused any more", "pause() did that already"
        )
        self._tell_of_revocation(done["held_by"])

    @guarded("resume")
    async def resume(self, run_id: UUID | str) -> None:
        """Let a paused run go on, or one that was halted (RunHalted) when its cause is mended.

        Raises:
            RunNotFoundError: there is no such run.
            RunFinishedError: the run has ended.
            IllegalTransitionError: the run is not paused.
        """
        run_id = as_run_id(run_id)
        done = await self._open.control.resume_run(run_id)
        self._check(
            run_id, done, "pending", "it can't be resumed any more", "resume() takes a paused run"
        )
        self._tell_of_work(done["queue"])

    @guarded("retry")
    async def retry(self, run_id: UUID | str) -> None:
        """Let a failed (or cancelled, or timed-out) run go on from the step that failed it.

        The failed step's record is removed, with all that was recorded after it (compensations,
        say), and the step gets its attempts anew; what was recorded before is kept. A run that
        failed in its own code goes on where it failed: mend the code first. One that failed
        because a child did waits for that child's end again: retry the child before its parent.

        Raises:
            RunNotFoundError: there is no such run.
            RunFinishedError: the run has succeeded.
            IllegalTransitionError: the run has not failed.
            RunConflictError: another run holds its deduplication key now.
        """
        run_id = as_run_id(run_id)
        while True:
            run = await self._look(run_id)
            entries = await self._entries(run_id)
            seq = failing_entry(self._error_of(run), run["status"], entries)
            if await self._set_back(run, seq, ["failed", "cancelled"], "pending"):
                return

    @guarded("rewind")
    async def rewind(self, run_id: UUID | str, to_step: str) -> None:
        """Set a run that has not succeeded back to before a step, which is executed again.

        Whatever was recorded from then on is removed; signals that it took lie in the inbox again.
        Children that were started since go on, and are met again. A worker that holds the run loses
        it at once.

        Args:
            run_id: the run.
            to_step: the step's name or, when several have it, the key of its journal entry.

        Raises:
            RunNotFoundError: there is no such run.
            RunFinishedError: the run has succeeded: fork() it instead.
            StepNotFoundError: the run recorded no such step, or several.
            RunConflictError: another run holds its deduplication key now.
        """
        run_id = as_run_id(run_id)
        while True:
            run = await self._look(run_id)
            seq = entry_of(run_id, to_step, await self._entries(run_id))
            if await self._set_back(run, seq, [*_UNFINISHED, "failed", "cancelled"], "pending"):
                return

    @guarded("fork")
    async def fork(
        self,
        run_id: UUID | str,
        *,
        from_step: str,
        version: int | None = None,
        queue: str | None = None,
        idempotency_key: str | None = None,
    ) -> UUID:
        """Start a new run that has done what another had done before a step; return its id.

        It has the input and metadata of the other run, its journal up to the step, and the signals
        which that part had not taken. The other run, in whatever status, stays as it is.

        Args:
            run_id: the run to fork.
            from_step: the step that the new run executes first, by its name or, when several have
                it, the key of its journal entry.
            version: another version of the workflow; the code must agree with what was recorded.
            queue: another queue.
            idempotency_key: a second fork (or start) of the workflow with the same key returns the
                first one's run.

        Raises:
            RunNotFoundError: there is no such run.
            StepNotFoundError: the run recorded no such step, or several.
            UnknownWorkflowError: there is no such version.
            RunConflictError: children that the run had started before the step have not ended:
                their end would be told to it alone.
        """
        run_id = as_run_id(run_id)
        run = await self._look(run_id)
        seq = entry_of(run_id, from_step, await self._entries(run_id))
        lane = run["lane"]
        if version is None:
            version = run["version"]
        else:
            lane = (await self._target(run["workflow"], version)).lane
        if queue is not None:
            check_name(queue, "queue")
            await self._open.queues.ensure_queue(queue)
        done = await self._open.control.fork_run(
            run_id, new_run_id(), seq, version, lane, queue, self._own_key(idempotency_key)
        )
        if done["outcome"] == "unknown":
            raise RunNotFoundError(run_id)
        if done["outcome"] == "children":
            raise RunConflictError(
                run_id, "children that it started before that step have not ended: fork it then"
            )
        if done["outcome"] == "done":
            self._tell_of_work(done["queue"])
        forked = UUID(bytes=done["run_id"].bytes)
        return forked if done["outcome"] == "done" else await self._theirs(forked)

    @guarded("list")
    async def unserved(self) -> list[Unserved]:
        """Return which unfinished runs no living worker serves, by workflow, version and queue.

        They wait until a worker that has registered that version serves that queue. The answer
        takes a look at every unfinished run: ask now and then, not in a loop.
        """
        return [
            Unserved(
                row["workflow"], row["version"], row["queue"], row["runs"], row["oldest"],
                [UUID(bytes=r.bytes) for r in row["first_runs"]],
            )
            for row in await self._open.control.unserved()
        ]  # fmt: skip

    async def _look(self, run_id: UUID) -> Any:
        run = await self._open.store.run_status(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    def _error_of(self, run: Any) -> dict[str, Any]:
        return ANY.decode(self._open.store.decode(run["error"]), "the error") or {}

    async def _entries(self, run_id: UUID) -> list[Recorded]:
        store = self._open.store
        return [
            recorded(
                row["key"], row["seq"], row["kind"], row["name"], store.decode(row["value"]),
                failed=row["failed"],
            )
            for row in await store.journal(run_id)
        ]  # fmt: skip

    async def _set_back(self, run: Any, seq: int | None, statuses: Sequence[str], to: str) -> bool:
        run_id = UUID(bytes=run["id"].bytes)
        try:
            done = await self._open.control.rewind_run(run_id, run["claim"], seq, list(statuses))
        except asyncpg.UniqueViolationError as error:
            raise RunConflictError(
                run_id, "another run of its queue holds its deduplication key now: wait for its end"
            ) from error
        if done["outcome"] == "moved":
            return False
        self._check(
            run_id, done, to, "it can't be set back, but fork() makes a new run of it",
            "retry() takes one that has failed or was cancelled",
        )  # fmt: skip
        self._tell_of_revocation(done["held_by"])
        self._tell_of_work(done["queue"])
        return True

    def _check(self, run_id: UUID, done: Any, to: str, what: str, why: str) -> None:
        if done["outcome"] == "unknown":
            raise RunNotFoundError(run_id)
        if done["outcome"] == "refused":
            if done["status"] == "succeeded" or (
                to == "paused" and done["status"] in ("failed", "cancelled")
            ):
                raise RunFinishedError(run_id, done["status"], what)
            raise IllegalTransitionError(done["status"], to, run_id, why)


async def _settled(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again while the run changes hands in between."""
    while (done := await ask())["outcome"] == "moved":
        pass
    return done


def _check_signal(name: str) -> None:
    check_name(name, "signal")
    if name.startswith("$"):
        raise DefinitionError(f"signal name {name!r}: names that begin with '$' are the engine's")
