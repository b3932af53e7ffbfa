# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Running one job: from its delivery to its outcome. Whatever the user's code raises becomes an
outcome.

The time of an attempt is watched by whoever started its task (`Consumer`), and only of those that
did not end at once: most jobs of a busy queue never need a timer.
"""

import asyncio
import contextvars
import json
import logging
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from forktex_core.queue import message as wire
from forktex_core.queue.backoff import Backoff
from forktex_core.queue.context import JobContext, running
from forktex_core.queue.definition import Definition, later
from forktex_core.queue.errors import ConfigurationError, Retry, WrongArgumentsError
from forktex_core.queue.worker.delivery import Delivery, Outcome

if TYPE_CHECKING:
    from forktex_core.queue.queue import Next, Queue

log = logging.getLogger("forktex_core.queue")

WRITTEN_AT_END = {wire.UNIQUE, wire.BATCH, wire.KEEP}
FAILURE_LENGTH = 4000  # characters of a traceback that a dead letter keeps: its end
STRANGER_RETRIES = (
    12  # a job that this worker doesn't know may be a newer worker's: about ten minutes of waiting
)
STRANGER_BACKOFF = Backoff(first=1.0, most=60.0)


class Runner:
    """Runs the jobs of one queue. ``threads``: where plain functions run."""

    def __init__(
        self, queue: "Queue", state: dict[str, Any], threads: Callable[[], ThreadPoolExecutor]
    ) -> None:
        self._queue, self._state, self._threads = queue, state, threads

    @property
    def _bare(self) -> bool:
        """Whether nothing is around the jobs."""
        return not self._queue.layers and self._queue.tracing is None

    async def run(self, delivery: Delivery) -> Outcome:
        """The outcome of a delivery; nothing is raised but what ends the process."""
        try:
            return await self._attempt(delivery)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a backoff of the user's that raises, for one
            return failed(delivery, error)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        definition = delivery.definition
        if definition is None:
            return self._stranger(delivery)
        context = JobContext(self._queue, delivery.message, self._state)
        running.set(context)
        try:
            value = await self._call(context, definition)
            return succeeded(delivery, definition, context, value)
        except asyncio.CancelledError:
            return interrupted(delivery)
        except (WrongArgumentsError, ConfigurationError) as error:
            return failed(delivery, error)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - every failure of the user's code is an outcome
            return troubled(delivery, definition, error)

    def _stranger(self, delivery: Delivery) -> Outcome:
        if not delivery.message.name:
            return failed(delivery, ValueError("this entry of the stream is no job of this module"))
        known = ", ".join(sorted(self._queue.jobs)) or "none"
        error = LookupError(
            f"this worker has no job {delivery.message.name!r} (it has: {known}): deploy workers "
            "before what enqueues new jobs, and import every module of jobs"
        )
        return again(delivery, error, STRANGER_RETRIES, STRANGER_BACKOFF, None)

    async def _call(self, context: JobContext, definition: Definition) -> Any:
        args, kwargs = definition.arguments.decode(context.message.arguments)
        if self._bare and definition.awaits:
            return await definition.function(*args, **kwargs)
        body: Next = partial(self._body, definition, args, kwargs)
        for layer in reversed(self._queue.layers):
            body = partial(self._wrap, layer, context, body)
        if self._queue.tracing is None:
            return await body()
        with self._queue.tracing.run(self._queue.name, context.message):
            return await body()

    async def _wrap(self, layer: Any, context: JobContext, call_next: "Next") -> Any:
        return await layer(context, call_next)

    def _body(
        self, definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[Any]:
        if definition.awaits:
            coroutine: Awaitable[Any] = definition.function(*args, **kwargs)
            return coroutine
        here = contextvars.copy_context()
        call = partial(here.run, definition.function, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._threads(), call)


def succeeded(
    delivery: Delivery, definition: Definition, context: JobContext, value: Any
) -> Outcome:
    """The outcome of a job that returned ``value``."""
    options = delivery.message.options
    if not (delivery.admitted or context.reported or WRITTEN_AT_END & options.keys()):
        return Outcome(delivery, "s", delivery.wire, plain=True)
    if wire.KEEP not in options:
        return Outcome(delivery, "s", delivery.wire)
    try:
        result = definition.arguments.encode_result(value)
        text = json.dumps({"s": "succeeded", "v": result}, separators=(",", ":"))
    except (ValueError, TypeError, UserWarning) as error:
        error.add_note("the job ran, but its result has no JSON by its annotation")
        return failed(delivery, error)
    return Outcome(delivery, "s", delivery.wire, result=text)


def interrupted(delivery: Delivery) -> Outcome:
    """The outcome of a job whose task was cancelled: by a wish, by its time, by the worker's end,
    or by itself."""
    definition = delivery.definition
    if delivery.interrupted == "cancelled":
        return Outcome(delivery, "c", delivery.wire, result='{"s":"cancelled"}')
    if delivery.interrupted in ("stopping", "lost"):
        return Outcome(delivery, "g", delivery.wire)
    error: Exception = RuntimeError("the job raised CancelledError though nobody cancelled it")
    if definition is None:
        return failed(delivery, error)
    if delivery.interrupted == "late":
        error = TimeoutError(f"it was not done in {definition.timeout:g} s")
    return troubled(delivery, definition, error)


def troubled(delivery: Delivery, definition: Definition, error: BaseException) -> Outcome:
    """The outcome of a job that raised: it is run again, or it is a dead letter."""
    after = error.after if isinstance(error, Retry) else None
    return again(delivery, error, definition.retries, definition.backoff, after)


def again(
    delivery: Delivery, error: BaseException, retries: int, backoff: Backoff, after: float | None
) -> Outcome:
    """Run a job again after a while, if it may fail once more."""
    failures = delivery.message.options.get(wire.ATTEMPT, 0) + 1
    if failures > retries:
        return failed(delivery, error)
    delay = backoff.delay(failures) if after is None else max(0.0, after)
    job = delivery.message
    log.warning("job %s %s runs again in %.3f s: %s", job.name, job.id, delay, summary(error))
    message = later(
        delivery.message, **{wire.ATTEMPT: failures, wire.CRASHES: None, wire.GRANTS: None}
    )
    return Outcome(delivery, "r", message.encode(), delay=round(delay * 1000))


def failed(delivery: Delivery, error: BaseException) -> Outcome:
    """The outcome of a job that is given up."""
    job, told = delivery.message, summary(error)
    log.error("job %s %s is a dead letter: %s", job.name, job.id, told)
    failure = shown(traceback.format_exception(error, limit=-8))
    text = json.dumps({"s": "failed", "e": told})
    return Outcome(delivery, "f", delivery.wire, result=text, failure=failure)


def summary(error: BaseException) -> str:
    """An error without its traceback; unlike its repr this never raises."""
    return shown(traceback.format_exception_only(error)).strip()


def shown(lines: list[str]) -> str:
    """The end of a failure's text, in characters that every encoding of Unicode has."""
    text = "".join(lines).encode("utf-8", "backslashreplace").decode()
    return text[-FAILURE_LENGTH:]


def expired(delivery: Delivery) -> Outcome:
    """The outcome of a job that came too late."""
    return Outcome(delivery, "x", delivery.wire, result='{"s":"expired"}')
