# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The durable calls that a body may have open, each waiting for one completion."""

import asyncio
import contextvars
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, override

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.engine.runloop import DurableTimer
from forktex_core.flow.errors import StepFailed, StepTimeout
from forktex_core.flow.replay import Entry
from forktex_core.flow.retry import NO_RETRY, Retry

_encode = json.JSONEncoder().encode


@dataclass(slots=True, eq=False, kw_only=True)
class Operation:
    """A durable call of the body that is not yet completed."""

    key: str
    kind: str
    name: str
    future: asyncio.Future[Any] | None = None

    @property
    def label(self) -> str:
        """Name the call as ``explain`` and errors do."""
        return f"{self.kind} {self.name!r}"

    def resolve(self, entry: Entry) -> None:
        """Give the body what was recorded."""
        raise AssertionError(entry.kind)


@dataclass(slots=True, eq=False, kw_only=True)
class StepCall(Operation):
    """A step: executed until it succeeds, or fails for good."""

    fn: Callable[..., Any]
    is_async: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    takes_context: bool
    shape: Shape
    context: contextvars.Context
    retries: Retry = NO_RETRY
    timeout: float | None = None
    deadline: float | None = None
    attempt: int = 0
    first_started: float = 0.0
    started: float = 0.0
    resume_at: float | None = None
    task: asyncio.Task[None] | None = None
    abandoned: bool = False

    @override
    def resolve(self, entry: Entry) -> None:
        assert self.future is not None
        if self.future.done():
            return
        if entry.failed:
            record = ANY.decode(entry.value, self.label)
            timed_out = record.get("type") == f"{StepTimeout.__module__}.{StepTimeout.__qualname__}"
            error = StepTimeout.restored(record) if timed_out else StepFailed.restored(record)
            self.future.set_exception(error)
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
    def resolve(self, entry: Entry) -> None:
        self.fire(self.timer)


@dataclass(slots=True, eq=False, kw_only=True)
class SignalWait(Operation):
    """A wait for the next signal of a name (or of several), perhaps with a time limit."""

    signals: tuple[str, ...]
    shape: Shape
    deadline: float | None = None

    def record(self, name: str, payload: str | None) -> str | None:
        """Return what the journal holds: the payload, with its name when there was a choice."""
        return payload if len(self.signals) == 1 else f"[{_encode(name)},{payload or 'null'}]"

    @override
    def resolve(self, entry: Entry) -> None:
        assert self.future is not None
        if self.future.done():
            return
        if entry.failed:
            self.future.set_exception(TimeoutError(f"no signal {self.name!r} came in time"))
            return
        try:
            what = f"the payload of signal {self.name!r}"
            value = self.shape.decode(entry.value, what)
            self.future.set_result(value if len(self.signals) == 1 else tuple(value))
        except Exception as error:  # noqa: BLE001 - a validator may raise anything
            self.future.set_exception(error)
