# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The durable calls that a body may have open, each waiting for one completion.

A call is *launched* when the journal holds nothing for it and the body can't go on, *fired* when
a moment that it set has come, *released* when the body gives it up, and *resolved* with the entry
that records its completion.
"""

import asyncio
import contextvars
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, override

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.engine.runloop import DurableTimer
from forktex_core.flow.errors import PayloadError, StepFailed, StepTimeout, type_name
from forktex_core.flow.replay import CHILD, STEP, Entry
from forktex_core.flow.retry import seconds
from forktex_core.flow.store.effects import Effect
from forktex_core.flow.store.rows import Signal

if TYPE_CHECKING:
    from forktex_core.flow.context import BareStep
    from forktex_core.flow.engine.execution import Execution
    from forktex_core.flow.workflow import Step

_encode = json.JSONEncoder().encode
_decode = json.JSONDecoder().raw_decode
_STEP_TIMEOUT = type_name(StepTimeout)


@dataclass(slots=True, eq=False, kw_only=True)
class Operation:
    """A durable call of the body that is not yet completed."""

    key: str
    kind: str
    name: str
    future: asyncio.Future[Any] | None = None
    asked: float = 0.0
    """When the body asked for it, by the run's logical time."""

    @property
    def label(self) -> str:
        """Name the call as ``explain`` and errors do."""
        return f"{self.kind} {self.name!r}"

    def launch(self, execution: "Execution") -> None:
        """Begin what the journal doesn't hold."""
        raise AssertionError(self.kind)

    def fired(self, execution: "Execution") -> None:
        """Go on at the moment that was set."""
        raise AssertionError(self.kind)

    def released(self, execution: "Execution") -> None:
        """Take note that the body gave the call up."""

    def resolve(self, entry: Entry) -> None:
        """Give the body what was recorded."""
        raise AssertionError(entry.kind)


class StepCall(Operation):
    """A step: executed until it succeeds, or fails for good. Every step makes one of these, hence
    no dataclass with twenty arguments: what the step's definition says stays there.
    """

    __slots__ = (
        "abandoned", "args", "attempt", "committing", "context", "deadline", "first_started",
        "kwargs", "shape", "started", "step", "task", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        step: "Step[..., Any] | BareStep",
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.key, self.kind, self.name = key, STEP, step.name
        self.future: asyncio.Future[Any] | None = None
        self.step, self.args, self.kwargs = step, args, kwargs
        self.shape = step.shape
        self.context = contextvars.copy_context()
        settings = step.settings
        self.timeout = None if settings.timeout is None else seconds(settings.timeout)
        self.deadline = None if settings.deadline is None else seconds(settings.deadline)
        self.attempt = 0
        self.first_started = self.started = 0.0
        self.task: asyncio.Task[None] | None = None
        self.abandoned = self.committing = False

    @override
    def launch(self, execution: "Execution") -> None:
        execution.steps.launch(self)

    @override
    def fired(self, execution: "Execution") -> None:
        execution.steps.start_attempt(self)

    @override
    def released(self, execution: "Execution") -> None:
        execution.steps.abandon(self)

    @override
    def resolve(self, entry: Entry) -> None:
        assert self.future is not None
        if self.future.done():
            return
        if entry.failed:
            record = ANY.decode(entry.value, self.label)
            kind = StepTimeout if record.get("type") == _STEP_TIMEOUT else StepFailed
            self.future.set_exception(kind.restored(record))
            return
        try:
            self.future.set_result(self.shape.decode(entry.value, f"the result of {self.label}"))
        except Exception as error:  # noqa: BLE001 - a validator may raise anything
            self.future.set_exception(error)


@dataclass(slots=True, eq=False, kw_only=True)
class TimerCall(Operation):
    """A timer of the body's loop."""

    timer: DurableTimer
    fire: Callable[[DurableTimer], None]

    @override
    def launch(self, execution: "Execution") -> None:
        execution.timers.set(self.timer.when(), self)

    @override
    def fired(self, execution: "Execution") -> None:
        execution.append(execution.entry(self, False, None))

    @override
    def resolve(self, entry: Entry) -> None:
        self.fire(self.timer)


@dataclass(slots=True, eq=False, kw_only=True)
class GraceCall(Operation):
    """The time that a cancelled body has to clean up."""

    when: float
    expired: Callable[[], None]

    @override
    def launch(self, execution: "Execution") -> None:
        execution.timers.set(self.when, self)

    @override
    def fired(self, execution: "Execution") -> None:
        execution.append(execution.entry(self, False, None))

    @override
    def resolve(self, entry: Entry) -> None:
        self.expired()


@dataclass(slots=True, eq=False, kw_only=True)
class EffectCall(Operation):
    """Something that is written together with its entry: a start, a signal, a published value.

    ``value`` is what the entry holds and the body gets.
    """

    effects: tuple[Effect, ...]
    value: str | None = None

    @override
    def launch(self, execution: "Execution") -> None:
        if self.kind == CHILD:
            execution.has_children = True
        execution.append(execution.entry(self, False, self.value), None, self.effects)

    @override
    def resolve(self, entry: Entry) -> None:
        assert self.future is not None
        if self.future.done():
            return
        value = ANY.decode(entry.value, self.label)
        if entry.failed:
            self.future.set_exception(PayloadError(value["message"]))
        else:
            self.future.set_result(value)


@dataclass(slots=True, eq=False, kw_only=True)
class SignalWait(Operation):
    """A wait for the next signal of a name (or of several), perhaps with a time limit."""

    signals: tuple[str, ...]
    shape: Shape
    deadline: float | None = None

    @override
    def launch(self, execution: "Execution") -> None:
        execution.inbox.wait(self)
        if self.deadline is not None:
            execution.timers.set(self.deadline, self)

    @override
    def fired(self, execution: "Execution") -> None:
        if execution.inbox.release(self):
            execution.append(execution.entry(self, True, None))

    @override
    def released(self, execution: "Execution") -> None:
        execution.inbox.release(self)

    @override
    def resolve(self, entry: Entry) -> None:
        assert self.future is not None
        if self.future.done():
            return
        if entry.failed:
            self.future.set_exception(TimeoutError(f"no signal {self.name!r} came in time"))
            return
        try:
            self.future.set_result(self.value(recorded_signal(entry)))
        except Exception as error:  # noqa: BLE001 - a validator may raise anything
            self.future.set_exception(error)

    def value(self, signal: Signal) -> Any:
        """Return what the body gets: the payload, with its name when there was a choice."""
        value = self.shape.decode(signal.payload, f"the payload of signal {signal.name!r}")
        return value if len(self.signals) == 1 else (signal.name, value)


def signal_record(signal: Signal) -> str:
    """Return what the journal holds of a signal that was taken: number, name and payload."""
    return f"[{signal.no},{_encode(signal.name)},{signal.payload or 'null'}]"


def recorded_signal(entry: Entry) -> Signal:
    """Return the signal that an entry took."""
    number, _, rest = (entry.value or "")[1:-1].partition(",")
    name, end = _decode(rest)
    return Signal(int(number), name, rest[end + 1 :], entry.at)
