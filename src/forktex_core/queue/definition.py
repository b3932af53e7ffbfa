# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What is registered under a job's name, and the options of one enqueueing."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from inspect import iscoroutinefunction
from typing import Any, Literal

from forktex_core.queue import message as wire
from forktex_core.queue.arguments import Arguments
from forktex_core.queue.backoff import Backoff
from forktex_core.queue.duration import Seconds, milliseconds
from forktex_core.queue.envelope import Envelope
from forktex_core.queue.errors import ArgumentsTooLargeError, ConfigurationError
from forktex_core.queue.limits import Concurrency, Limit, Rate
from forktex_core.queue.message import Message, new_id

type Priority = Literal["high", "normal", "low"]
type Unique = Literal["queued", "done"] | float | timedelta | None

LANES: dict[Priority, str] = {"high": "h", "normal": "n", "low": "l"}


KEY_BYTES = 512  # of a key=


def check_priority(priority: str | None, where: str = "") -> None:
    """ConfigurationError for a priority that there isn't."""
    if priority is not None and priority not in LANES:
        raise ConfigurationError(f"{where}no priority {priority!r}, only {', '.join(LANES)}")


@dataclass(frozen=True)
class Definition:
    """A job: its function and how it is to be run. Durations are seconds."""

    name: str
    function: Callable[..., Any]
    arguments: Arguments
    retries: int = 3
    timeout: float | None = 300.0
    backoff: Backoff = field(default_factory=Backoff)
    unique: Unique = None
    limits: tuple[Limit, ...] = ()
    priority: Priority = "normal"
    keep: Seconds = 0
    expires: Seconds | None = None

    def __post_init__(self) -> None:
        where = f"job {self.name!r}: "
        check_priority(self.priority, where)
        if not whole(self.retries):
            raise ConfigurationError(f"{where}retries={self.retries!r}: give a number, 0 or more")
        if self.timeout is not None and not milliseconds(self.timeout, f"{where}timeout"):
            raise ConfigurationError(f"{where}timeout={self.timeout!r}: give one above 0, or None")
        milliseconds(self.keep, f"{where}keep")
        milliseconds(self.expires or 0, f"{where}expires")
        self._check_unique(where)
        for limit in self.limits:
            if not isinstance(limit, Rate | Concurrency):
                raise ConfigurationError(f"{where}{limit!r} is no limit: give Rate or Concurrency")

    def _check_unique(self, where: str) -> None:
        if self.unique is None or self.unique in ("queued", "done"):
            return
        if isinstance(self.unique, str | bool) or not milliseconds(self.unique, f"{where}unique"):
            raise ConfigurationError(
                f"{where}unique={self.unique!r} is not 'queued', 'done' or a period above 0"
            )

    @cached_property
    def awaits(self) -> bool:
        """Whether calling the function gives something to await."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 - an object's call may be a coroutine function
        return iscoroutinefunction(self.function) or iscoroutinefunction(call)

    @property
    def ends_at_start(self) -> bool:
        """Whether a worker must free the unique key when the job starts."""
        return self.unique == "queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How one job is enqueued; what is None is as the job's definition says.

    ``delay`` seconds from now or ``at`` an aware datetime; ``priority``; ``key`` is what the job is
    about (unique jobs are
    unique per key instead of per arguments, limits ``by_key`` count per key); ``expires`` seconds
    after which it isn't
    worth starting any more; ``keep`` seconds that its result is kept."""

    delay: Seconds | None = None
    at: datetime | None = None
    priority: Priority | None = None
    key: str | None = None
    expires: Seconds | None = None
    keep: Seconds | None = None

    def __post_init__(self) -> None:
        if self.delay is not None and self.at is not None:
            raise ConfigurationError("give delay= or at=, not both")
        if self.at is not None and not aware(self.at):
            raise ConfigurationError(f"at={self.at!r} has no time zone: give an aware datetime")
        check_priority(self.priority)
        for name in ("delay", "expires", "keep"):
            milliseconds(getattr(self, name) or 0, name)
        if self.key is not None:
            check_key(self.key)


def whole(value: object) -> bool:
    """Whether it is a number of things."""
    return isinstance(value, int) and value >= 0


def aware(value: object) -> bool:
    """Whether it is a moment with a time zone."""
    return isinstance(value, datetime) and value.tzinfo is not None


def check_key(key: str) -> None:
    """ConfigurationError for a ``key=`` that can't be stored."""
    try:
        size = len(key.encode())
    except (AttributeError, UnicodeEncodeError) as error:
        raise ConfigurationError(f"key={key!r} is no text: give a string") from error
    if size > KEY_BYTES:
        raise ConfigurationError(f"a key has at most {KEY_BYTES} bytes, not {size}: shorten it")


@dataclass(slots=True)
class Call[R]:
    """A job with its arguments and options, ready to be enqueued; R is the type of its result."""

    definition: Definition
    payload: bytes
    options: Options = field(default_factory=Options)

    def due(self) -> str:
        """When it is due, in the words of ``enqueue.lua``."""
        if self.options.at is not None:
            return str(round(self.options.at.timestamp() * 1000))
        if not self.options.delay:
            return ""
        delay = milliseconds(self.options.delay, "delay")
        return f"+{delay}" if delay else ""

    def envelope(self, trace: str | None = None, batch: str | None = None) -> Envelope:
        """The call as it is sent, as a new job."""
        priority, unique = self.options.priority or self.definition.priority, self._unique()
        stored = self._lifetimes()
        if priority != "normal":
            stored[wire.PRIORITY] = LANES[priority]
        if self.options.key is not None:
            stored[wire.KEY] = self.options.key
        if batch is not None:
            stored[wire.BATCH] = batch
        if trace is not None:
            stored[wire.TRACE] = trace
        if unique:
            stored |= {wire.UNIQUE: self._unique_name(), wire.UNIQUE_MODE: unique[0]}
        message = Message(new_id(), self.definition.name, self.payload, stored)
        return Envelope(message, LANES[priority], self.due(), unique)

    def _lifetimes(self) -> dict[str, Any]:
        """Until when it is worth starting, and how long its result is kept."""
        definition, options, stored = self.definition, self.options, dict[str, Any]()
        expires = definition.expires if options.expires is None else options.expires
        keep = definition.keep if options.keep is None else options.keep
        if expires is not None:
            stored[wire.EXPIRES] = now_ms() + milliseconds(expires, "expires")
        if keep and (kept := milliseconds(keep, "keep")):
            stored[wire.KEEP] = kept
        return stored

    def _unique(self) -> str:
        match self.definition.unique:
            case None:
                return ""
            case "queued":
                return "q"
            case "done":
                return "d"
            case period:
                return f"p{milliseconds(period, 'unique')}"

    def _unique_name(self) -> str:
        about = self.options.key
        if about is None:
            about = hashlib.blake2b(self.payload, digest_size=12).hexdigest()
        return f"{self.definition.name}:{about}"


def call_of(
    definition: Definition,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
    limit: int,
) -> Call[Any]:
    """A checked call. Raises WrongArgumentsError, ArgumentsTooLargeError."""
    payload = definition.arguments.encode(args, kwargs)
    if len(payload) > limit:
        raise ArgumentsTooLargeError(definition.name, len(payload), limit)
    return Call(definition, payload, options)


def check_calls(calls: Iterable[object]) -> None:
    """ConfigurationError for what is no call."""
    for call in calls:
        if not isinstance(call, Call):
            raise ConfigurationError(
                f"{type(call).__name__} is no call of a job: give send_email.call(user_id=1)"
            )


def now_ms() -> int:
    """The caller's clock in milliseconds since the epoch."""
    return round(datetime.now(UTC).timestamp() * 1000)


def later(message: Message, **changes: Any) -> Message:
    """A copy of a message with other options; None removes one."""
    options = {k: v for k, v in (message.options | changes).items() if v is not None}
    return replace(message, options=options)
