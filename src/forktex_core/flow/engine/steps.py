# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The steps of one run: attempts, their time limits, their retries, and what is recorded of them.

An attempt is a task of the worker's loop that starts eagerly. It ends in one entry: the result, the
failure, or (when another attempt follows) a note that says when. A step that the body gave up is
interrupted at its next await; whatever it does after that is not recorded.
"""

import asyncio
import contextvars
import functools
import random
from typing import TYPE_CHECKING, Any

from forktex_core.flow import logs
from forktex_core.flow.codec import ANY
from forktex_core.flow.engine.operation import StepCall
from forktex_core.flow.errors import PayloadError, StepTimeout, record_error, type_name
from forktex_core.flow.replay import ATTEMPT
from forktex_core.flow.step_context import StepContext

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution
    from forktex_core.flow.engine.transaction import Transaction


class Steps:
    """See the top of the file."""

    __slots__ = ("_execution", "running")

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution
        self.running: set[StepCall] = set()

    def launch(self, call: StepCall) -> None:
        """Begin a step, or go on with it after the attempts that the journal tells of."""
        execution = self._execution
        failed = execution.replay.last_attempt(call.key)
        if failed is None:
            self.start_attempt(call)
            return
        note = ANY.decode(failed.value, "an attempt")
        call.attempt = failed.attempt
        call.first_started = note["first_started"]
        execution.timers.set(note["resume_at"], call)

    def start_attempt(self, call: StepCall) -> None:
        """Run the function once."""
        host = self._execution.host
        call.started = host.now()
        if not call.attempt:
            call.first_started = call.started
        call.attempt += 1
        if logs.following:
            logs.enter(call.context, self._execution, call)
        self.running.add(call)
        call.task = asyncio.Task(
            self._attempt(call),
            loop=host.real_loop,
            name=f"step {call.name}",
            context=call.context,
            eager_start=True,
        )

    def abandon(self, call: StepCall) -> None:
        """Interrupt a step that the body gave up."""
        call.abandoned = True
        if not self._execution.sealed:
            self._interrupt(call)

    def stop(self) -> None:
        """Interrupt all that runs."""
        for call in list(self.running):
            self._interrupt(call)

    def _interrupt(self, call: StepCall) -> None:
        if call.task is not None and not call.committing:
            call.task.cancel()

    async def _attempt(self, call: StepCall) -> None:
        execution = self._execution
        try:
            step = call.step
            if step.settings.transactional:
                await self._transact(call)
                return
            if step.is_async and call.timeout is None and call.deadline is None:
                result = await step.fn(*self._arguments(call), **call.kwargs)
            else:
                result = await self._call(call)
        except asyncio.CancelledError as error:
            if not (call.abandoned or execution.sealed):
                self._failed(call, error)
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is the step's failure, not the worker's
            self._failed(call, error)
        else:
            self._succeeded(call, result)
        finally:
            self.running.discard(call)
            if not execution.unflushed:  # else the commit of what is under way wakes it
                execution.wake()

    async def _transact(self, call: StepCall) -> None:
        execution = self._execution

        async def work(transaction: "Transaction") -> str:
            result = await self._call(call, transaction)
            await transaction.session.flush()
            return self._encode(call, result)

        try:
            await execution.host.transactions.perform(execution, call, work)
        except PayloadError as error:
            self.record_failure(call, record_error(error))

    async def _call(self, call: StepCall, transaction: "Transaction | None" = None) -> Any:
        args = self._arguments(call, transaction)
        limit = call.timeout
        if call.deadline is not None:
            left = call.first_started + call.deadline - self._execution.host.now()
            limit = left if limit is None else min(limit, left)
        if limit is None:
            return await invoke(call, args)
        try:
            async with asyncio.timeout(limit) as scope:
                return await invoke(call, args)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise StepTimeout.restored(
                {
                    "type": type_name(StepTimeout),
                    "message": f"step {call.name!r} did not finish within {limit:g} s "
                    f"(attempt {call.attempt})",
                }
            ) from error

    def _arguments(
        self, call: StepCall, transaction: "Transaction | None" = None
    ) -> tuple[Any, ...]:
        if call.step.takes_context:
            return (StepContext(self._execution, call, transaction), *call.args)
        return call.args

    def _succeeded(self, call: StepCall, result: Any) -> None:
        execution = self._execution
        try:
            text = self._encode(call, result)
        except PayloadError as error:
            self.record_failure(call, record_error(error))
            return
        if not (call.abandoned or execution.closed):
            execution.append(execution.entry(call, False, text))

    def _encode(self, call: StepCall, result: Any) -> str:
        what = f"the result of step {call.name!r}"
        return call.shape.encode(result, what, self._execution.host.max_payload)

    def _failed(self, call: StepCall, error: BaseException) -> None:
        now = self._execution.host.now()
        if isinstance(error, Exception) and self._retry_allowed(call, error):
            jitter = random.Random(f"{self._execution.run_id}{call.key}{call.attempt}")  # noqa: S311 - no secret
            resume_at = now + call.step.settings.retries.delay(call.attempt, jitter)
            if call.deadline is None or resume_at < call.first_started + call.deadline:
                self._note_attempt(call, error, resume_at)
                return
        self.record_failure(call, record_error(error))

    def _retry_allowed(self, call: StepCall, error: Exception) -> bool:
        try:
            return call.step.settings.retries.allows(call.attempt, error)
        except Exception:  # noqa: BLE001 - a broken predicate must not lose the failure it was asked about
            return False

    def _note_attempt(self, call: StepCall, error: Exception, resume_at: float) -> None:
        execution = self._execution
        if call.abandoned or execution.closed:
            return
        note = {
            "error": record_error(error),
            "resume_at": resume_at,
            "first_started": call.first_started,
        }
        text = ANY.encode(note, "an attempt", 1 << 30)
        entry = execution.entry(call, True, text)
        entry.key, entry.kind = f"{call.key}#{call.attempt}", ATTEMPT
        execution.append(entry)
        execution.timers.set(resume_at, call)

    def record_failure(self, call: StepCall, error: dict[str, Any]) -> None:
        """Record that a step failed for good."""
        execution = self._execution
        if not (call.abandoned or execution.closed):
            execution.append(execution.entry(call, True, ANY.encode(error, "an error", 1 << 30)))


async def invoke(call: StepCall, args: tuple[Any, ...]) -> Any:
    """Call a step's function: a coroutine function on this loop, a plain one in a thread."""
    fn = call.step.fn
    if call.step.is_async:
        return await fn(*args, **call.kwargs)
    context = contextvars.copy_context()
    work = functools.partial(context.run, fn, *args, **call.kwargs)
    return await asyncio.get_running_loop().run_in_executor(None, work)
