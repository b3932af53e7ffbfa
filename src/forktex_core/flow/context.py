# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the functions of a user get in hand: FlowContext in a workflow's body, StepContext in a
step.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, overload
from uuid import UUID

from forktex_core.flow.codec import ANY, Shape, return_shape
from forktex_core.flow.engine.operation import SignalWait, StepCall
from forktex_core.flow.retry import seconds
from forktex_core.flow.workflow import Step, StepOptions, check_name, function_name, is_async

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
        step = fn if isinstance(fn, Step) else _bare(fn)
        result: R = await self._call_step(step, args, kwargs)
        return result

    async def _call_step(
        self, step: "Step[..., Any] | _BareStep", args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        execution = self._execution
        execution.check_inside()
        settings = step.settings
        return await execution.perform(
            StepCall(
                key=execution.next_key(),
                kind="step",
                name=step.name,
                fn=step.fn,
                is_async=step.is_async,
                args=args,
                kwargs=kwargs,
                takes_context=isinstance(step, Step),
                shape=step.shape,
                context=copy_context(),
                retries=settings.retries,
                timeout=None if settings.timeout is None else seconds(settings.timeout),
                deadline=None if settings.deadline is None else seconds(settings.deadline),
            )
        )

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
        check_name(name, "signal")
        return await self._wait((name,), name, ANY if type is None else Shape(type), timeout)

    async def wait_any_signal(
        self, names: Iterable[str], *, timeout: float | timedelta | None = None
    ) -> tuple[str, Any]:
        """Wait for the earliest signal of any of these names; return its name and payload. See
        wait_signal().
        """
        signals = tuple(check_name(name, "signal") for name in names)
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
                kind="signal",
                name=name,
                signals=signals,
                shape=shape,
                deadline=None if timeout is None else execution.now + seconds(timeout),
            )
        )

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


class StepContext:
    """What a decorated step gets as its first argument."""

    def __init__(self, execution: "Execution", call: StepCall) -> None:
        self._execution = execution
        self._call = call

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self._execution.run_id

    @property
    def name(self) -> str:
        """The step's name."""
        return self._call.name

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._call.attempt

    @property
    def idempotency_key(self) -> str:
        """A key for the outside world: the same for every attempt of this step, and for no other
        step.
        """
        return f"{self._execution.run_id}:{self._call.key}"

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries the run's and the step's names."""
        return logging.LoggerAdapter(
            _logger, {"run_id": str(self.run_id), "step": self.name, "attempt": self.attempt}
        )


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
class _BareStep:
    """An undecorated function on its way to be a step."""

    fn: Callable[..., Any]
    name: str
    shape: Shape
    is_async: bool
    settings: StepOptions = field(default_factory=StepOptions)


_facts: dict[Any, tuple[str, Shape, bool]] = {}


def _bare(fn: Callable[..., Any]) -> _BareStep:
    code = getattr(fn, "__code__", None)
    if code is None:
        return _BareStep(fn, check_name(function_name(fn), "step"), ANY, is_async(fn))
    if code not in _facts:
        _facts[code] = (check_name(function_name(fn), "step"), return_shape(fn), is_async(fn))
    return _BareStep(fn, *_facts[code])
