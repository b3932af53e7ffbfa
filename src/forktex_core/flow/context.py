# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a workflow's body gets in hand."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, overload
from uuid import UUID

from forktex_core.flow import concurrency
from forktex_core.flow.children import ChildHandle, ParentClose
from forktex_core.flow.codec import ANY, Shape, return_shape
from forktex_core.flow.engine.operation import EffectCall, SignalWait, StepCall
from forktex_core.flow.engine.outcome import ContinueAsNew
from forktex_core.flow.errors import ContextMisuseError, DefinitionError
from forktex_core.flow.identity import child_run_id
from forktex_core.flow.outgoing import (
    PROGRESS,
    check_published,
    check_signal,
    new_run,
    new_signal,
)
from forktex_core.flow.replay import CHILD, EFFECT, SIGNAL
from forktex_core.flow.retry import Retry, seconds
from forktex_core.flow.store.effects import NewSignal, NewValue
from forktex_core.flow.workflow import (
    Step,
    StepOptions,
    Workflow,
    check_name,
    function_name,
    is_async,
)

if TYPE_CHECKING:
    import random
    from collections.abc import MutableMapping

    from forktex_core.flow.engine.execution import Execution

_logger = logging.getLogger("forktex_core.flow.run")


class FlowContext:
    """What a workflow's body may do durably. All of it may run concurrently in branches of the
    body.
    """

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self._execution.run_id

    @property
    def replaying(self) -> bool:
        """Whether the body is being brought back to where it was, from the journal."""
        return self._execution.replaying

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that is silent while the body is being replayed."""
        return _RunLogger(_logger, self._execution)

    async def step[R](
        self, fn: Callable[..., Coroutine[Any, Any, R] | R], *args: Any, **kwargs: Any
    ) -> R:
        """Run a function as a step: its result is recorded once and never computed again.

        A function that was decorated with ``@flow.step`` gets a StepContext before ``args``, any
        other gets just ``args``. A plain ``def`` runs in a thread.

        Raises:
            StepFailed: the step failed for good; also an instance of the original exception type
                where it can be.
            DefinitionError: the function can't be a step.
        """
        step = fn if isinstance(fn, Step | BareStep) else _bare(fn)
        result: R = await self._call_step(step, args, kwargs)
        return result

    async def _call_step(
        self, step: "Step[..., Any] | BareStep", args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        execution = self._execution
        execution.check_inside()
        call = StepCall(execution.next_key(), step, args, kwargs)
        future = execution.begin(call)  # perform(), without a coroutine of its own
        try:
            return await future
        except asyncio.CancelledError:
            execution.give_up(call)
            raise

    async def sleep(self, duration: float | timedelta) -> None:
        """Sleep for some seconds (or a timedelta), from milliseconds to years; outlives every
        worker.
        """
        self._execution.check_inside()
        await asyncio.sleep(seconds(duration))  # the run's loop makes it durable

    async def sleep_until(self, moment: datetime) -> None:
        """Sleep until a moment; a datetime without a time zone is refused with ValueError."""
        self._execution.check_inside()
        if moment.tzinfo is None:
            raise ValueError(
                f"sleep_until needs a time zone: {moment.isoformat()} could mean any; use "
                "datetime.now(UTC)"
            )
        await asyncio.sleep(moment.timestamp() - self._execution.now)

    @overload
    async def wait_signal(self, name: str, *, timeout: float | timedelta | None = None) -> Any: ...
    @overload
    async def wait_signal[T](
        self, name: str, type: type[T], *, timeout: float | timedelta | None = None
    ) -> T: ...
    async def wait_signal(
        self, name: str, type: Any = None, *, timeout: float | timedelta | None = None
    ) -> Any:
        """Wait for the next signal of a name and return its payload. Signals are buffered, and come
        in order.

        Args:
            name: the signal's name.
            type: what the payload is validated against and restored to.
            timeout: seconds (or a timedelta) to wait at most.

        Raises:
            TimeoutError: no signal came in time.
            PayloadError: the payload doesn't fit ``type``; the signal is used up.
        """
        check_signal(name)
        return await self._wait((name,), name, ANY if type is None else Shape(type), timeout)

    async def wait_any_signal(
        self, names: Iterable[str], *, timeout: float | timedelta | None = None
    ) -> tuple[str, Any]:
        """Wait for the earliest signal of any of these names; return its name and payload. See
        wait_signal().
        """
        signals = tuple(check_signal(name) for name in names)
        if len(signals) == 1:
            return signals[0], await self._wait(signals, signals[0], ANY, timeout)
        return await self._wait(signals, "|".join(signals), ANY, timeout)  # type: ignore[no-any-return]

    async def _wait(
        self, signals: tuple[str, ...], name: str, shape: Shape, timeout: float | timedelta | None
    ) -> Any:
        execution = self._execution
        execution.check_inside()
        return await execution.perform(
            SignalWait(
                key=execution.next_key(),
                kind=SIGNAL,
                name=name,
                signals=signals,
                shape=shape,
                deadline=None if timeout is None else execution.now + seconds(timeout),
            )
        )

    # Many things at once

    async def select(self, **racers: Awaitable[Any]) -> tuple[str, Any]:
        """Wait for the first of several, by name: ``name, value = await ctx.select(paid=...,
        late=ctx.sleep(60))``.

        Each may be a wait for a signal, a sleep, a step, a child, or any coroutine of the body. The
        losers are released: waits and timers are given up (a signal that was meant for one stays
        in the inbox), steps are interrupted, a child of run_child() is cancelled by its
        parent-close policy. Tasks and futures that were given as such stay as they are.

        Raises whatever the first one raises.
        """
        self._execution.check_inside()
        return await concurrency.select(racers)

    async def gather(self, *awaitables: Awaitable[Any]) -> list[Any]:
        """Wait for all, and return their results in the order given.

        Other than with asyncio.gather, the first failure cancels the rest, and nothing is left
        running.
        """
        self._execution.check_inside()
        return await concurrency.gather(*awaitables)

    async def map(
        self, fn: Callable[..., Any], items: Iterable[Any], *, limit: int | None = None
    ) -> list[Any]:
        """Run a step, a function or a workflow for each item; return the results in the items'
        order.

        Args:
            fn: a decorated step, any function that is to be a step, or a workflow, which is run as
                a child; it gets the item.
            items: what to run it for.
            limit: how many run at the same time.

        The first failure cancels the rest and is raised.
        """
        self._execution.check_inside()
        run: Any = self.run_child if isinstance(fn, Workflow) else self.step
        calls = [lambda item=item: run(fn, item) for item in items]
        return await concurrency.gather_limited(calls, limit)

    # Children

    async def start_child[I, O](
        self,
        workflow: str | Workflow[I, O],
        input: Any = None,
        *,
        version: int | None = None,
        queue: str | None = None,
        priority: int = 0,
        delay: float | timedelta | None = None,
        metadata: dict[str, Any] | None = None,
        parent_close: ParentClose = "cancel",
    ) -> ChildHandle[O]:
        """Start a child run and return a handle of it, with ``run_id``, ``result()`` and
        ``cancel()``.

        Args:
            workflow: the workflow, or its name.
            input: what its body takes after ``ctx``.
            version: the newest that is registered here by default.
            queue: workers of that queue run it; the parent's by default.
            priority: higher goes first within a queue.
            delay: seconds (or a timedelta) until it is due.
            metadata: JSON for searching.
            parent_close: what becomes of it when this run ends before it does: ``cancel`` lets it
                clean up, ``terminate`` doesn't, ``abandon`` lets it go on.

        Raises:
            UnknownWorkflowError: no such workflow is registered here, and no ``version`` was given.
            PayloadError: the input doesn't fit, or JSON can't carry it.
        """
        child, call = self._child(
            workflow, input, version=version, queue=queue, priority=priority, delay=delay,
            metadata=metadata, parent_close=parent_close,
        )  # fmt: skip
        await child.start(call)
        return child

    def _child(
        self,
        workflow: str | Workflow[Any, Any],
        input: Any,
        *,
        queue: str | None = None,
        parent_close: ParentClose = "cancel",
        **options: Any,
    ) -> tuple[ChildHandle[Any], EffectCall]:
        execution = self._execution
        execution.check_inside()
        if parent_close not in ("terminate", "cancel", "abandon"):
            raise DefinitionError(
                f"parent_close must be 'terminate', 'cancel' or 'abandon', not {parent_close!r}"
            )
        key = execution.next_key()
        scoped = execution.scoped(key)
        run = replace(
            new_run(
                execution, child_run_id(execution.run_id, scoped), workflow, input,
                queue=execution.queue if queue is None else queue, **options,
            ),
            parent_id=execution.run_id, parent_key=scoped, parent_close=parent_close,
        )  # fmt: skip
        call = EffectCall(
            key=key, kind=CHILD, name=run.workflow, effects=(run,), value=str(run.version)
        )
        return ChildHandle(execution, run.id, run.workflow, scoped), call

    async def run_child[I, O](
        self, workflow: str | Workflow[I, O], input: Any = None, **options: Any
    ) -> O:
        """Start a child run and return its output: start_child() followed by result().

        If this wait is cancelled, so is the child, unless ``parent_close`` is ``abandon``.
        """
        child, call = self._child(workflow, input, **options)
        try:
            await child.start(call)
            result: O = await child.result()
            return result
        except asyncio.CancelledError:
            if options.get("parent_close") != "abandon":
                await child.cancel("its parent gave it up")
            raise

    # To the outside

    async def send_signal(self, run_id: UUID, name: str, payload: Any = None) -> None:
        """Send a signal to another run, exactly once. One to a run that has ended is dropped."""
        self._execution.check_inside()
        signal = new_signal(run_id, name, payload, self._execution.host.max_payload)
        await self._effect(name, signal)

    async def publish(self, key: str, value: Any) -> None:
        """Show a value under a key, to be read with ``flow.published(run_id, key)``; the last one
        counts.
        """
        self._execution.check_inside()
        check_published(key)
        await self._effect(key, self._value(key, value))

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Show how far the run is, to be read with ``flow.progress(run_id)``.

        Costs next to nothing: only the last of a tenth of a second is written, it is not recorded,
        and does nothing during replay.
        """
        self._execution.check_inside()
        if not self.replaying:
            value = {"done": done, "total": total, "message": message}
            self._execution.host.show(self._value(PROGRESS, value))

    def _value(self, key: str, value: Any) -> NewValue:
        what = f"the published value {key!r}"
        text = Shape(type(value)).encode(value, what, self._execution.host.max_payload)
        return NewValue(self._execution.run_id, key, text, self._execution.claim)

    async def _effect(self, name: str, effect: NewSignal | NewValue) -> None:
        key = self._execution.next_key()
        await self._execution.perform(
            EffectCall(key=key, kind=EFFECT, name=name, effects=(effect,))
        )

    # The run as a whole

    def on_rollback(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Register a compensation: ``fn`` is run as a step if this run fails or is cancelled.

        Compensations run last first, after the body has ended, each with its own retries (a
        function that isn't decorated as a step is tried three times). One that fails for good is
        reported in ``rollback`` of the run's error; the others still run.
        """
        self._execution.check_inside()
        step = fn if isinstance(fn, Step) else _bare(fn, StepOptions(retries=Retry()))
        self._execution.rollback.registered.append((step, args, kwargs))

    def continue_as_new(self, input: Any = None) -> NoReturn:
        """End this body and begin it anew with another input, under the same run id and with an
        empty journal: for runs that go on for ever.

        Signals that nobody has taken stay in the inbox, and children go on, though their results
        don't reach the new body. Compensations that were registered are dropped.

        Raises:
            ContextMisuseError: called in a branch (a task) instead of the body itself.
        """
        self._execution.check_inside()
        if not self._execution.on_main_branch:
            raise ContextMisuseError(
                "continue_as_new() in a branch of the body: return to the body itself first, so "
                "that no other branch is torn off"
            )
        raise ContinueAsNew(input)

    def patched(self, change: str) -> bool:
        """Say whether this run takes the new way at a change of the workflow's code.

        ::

            if ctx.patched("send-receipt"):
                await send_receipt(ctx)

        True for runs that get here for the first time with the new code, and from then on; False
        for those that had gone past this place before. When no run of the old code is left, drop
        the call and keep the new way.
        """
        self._execution.check_inside()
        return self._execution.patched(check_name(change, "change"))

    def now(self) -> datetime:
        """Return the run's time: the moment of the last thing that was delivered to it, the same on
        every replay.
        """
        return datetime.fromtimestamp(self._execution.now, UTC)

    def random(self) -> "random.Random":
        """Return a random generator that is seeded by the run and by the place of this call."""
        self._execution.check_inside()
        return self._execution.random()

    def uuid4(self) -> UUID:
        """Return a UUID that is drawn at random for this call, and the same on every replay."""
        self._execution.check_inside()
        return UUID(int=self._execution.random().getrandbits(128), version=4)


class _RunLogger(logging.LoggerAdapter[logging.Logger]):
    def __init__(self, logger: logging.Logger, execution: "Execution") -> None:
        super().__init__(
            logger, {"run_id": str(execution.run_id), "workflow": execution.workflow.lane}
        )
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own spelling
        return not self._execution.replaying and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: "MutableMapping[str, Any]"
    ) -> tuple[Any, "MutableMapping[str, Any]"]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


@dataclass(frozen=True, slots=True)
class BareStep:
    """An undecorated function on its way to be a step."""

    fn: Callable[..., Any]
    name: str
    shape: Shape
    is_async: bool
    settings: StepOptions
    takes_context: ClassVar[bool] = False


_facts: dict[Any, tuple[str, Shape, bool]] = {}


_PLAIN = StepOptions()


def _bare(fn: Callable[..., Any], settings: StepOptions = _PLAIN) -> BareStep:
    code = getattr(fn, "__code__", None)
    if code is None:
        if not callable(fn):
            raise DefinitionError(f"a step must be a function, not {fn!r}")
        return BareStep(fn, check_name(function_name(fn), "step"), ANY, is_async(fn), settings)
    if code not in _facts:
        _facts[code] = (check_name(function_name(fn), "step"), return_shape(fn), is_async(fn))
    return BareStep(fn, *_facts[code], settings)
