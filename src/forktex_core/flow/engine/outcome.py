# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How a run ends, by how its body ended: pure.

- A run whose cancellation was delivered ends as ``cancelled`` (as ``failed`` with RunTimeout, if
  its time ran out), whatever its body returns: a body that swallows the CancelledError changes
  nothing but how long it takes. If the clean-up itself fails, the run has failed with that error.
- A CancelledError that the body raised by itself is a failure like any other.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.errors import (
    PayloadError,
    RunCancelled,
    RunFailed,
    RunTimeout,
    record_error,
    type_name,
)

CANCEL_SIGNAL = "$cancel"
CONTINUED = "continued"
_NO_LIMIT = 1 << 30
_CANCELLATIONS: dict[str, tuple[type[RunFailed], str]] = {
    "cancel": (RunCancelled, "the run was cancelled"),
    "timeout": (RunTimeout, "the run did not end within its time limit"),
    "terminate": (RunCancelled, "the run was terminated"),
}


class ContinueAsNew(BaseException):
    """Ends a body whose run begins anew with another input."""

    def __init__(self, input: Any) -> None:
        super().__init__()
        self.input = input


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's last status, with the text of its output or error; or the text of its next input."""

    status: str
    output: str | None = None
    error: str | None = None


def cancellation(kind: str, reason: str | None) -> str:
    """Return the payload of a cancel signal.

    Args:
        kind: ``cancel``, ``timeout`` or ``terminate`` (without letting the body clean up).
        reason: why, in words.
    """
    error, message = _CANCELLATIONS[kind]
    record = {"type": type_name(error), "message": f"{message}: {reason}" if reason else message}
    return json.dumps({"kind": kind, "reason": reason, "error": record}, ensure_ascii=False)


def cancelled(request: dict[str, Any]) -> Outcome:
    """Return how a run ends that was cancelled by a request."""
    return failure("failed" if request["kind"] == "timeout" else "cancelled", request["error"])


def failure(status: str, error: dict[str, Any]) -> Outcome:
    """Return an outcome with an error."""
    return Outcome(status, None, ANY.encode(error, "the error", _NO_LIMIT))


def error_text(error: BaseException) -> str:
    """Return what is recorded of an error."""
    return ANY.encode(record_error(error), "an error", _NO_LIMIT)


def outcome(
    body: asyncio.Task[Any],
    request: dict[str, Any] | None,
    shapes: tuple[Shape | None, Shape],
    max_payload: int,
) -> Outcome:
    """Return how a run ends whose body is done.

    Args:
        body: the body's task.
        request: the cancellation that was delivered to it, if any.
        shapes: how input and output travel.
        max_payload: the limit of their size in bytes.
    """
    if body.cancelled():
        if request is not None:
            return cancelled(request)
        message = "the body raised CancelledError by itself: nobody cancelled the run"
        return failure("failed", {"type": type_name(asyncio.CancelledError), "message": message})
    error = body.exception()
    if request is not None and (error is None or isinstance(error, ContinueAsNew)):
        return cancelled(request)
    try:
        if error is None:
            return Outcome("succeeded", shapes[1].encode(body.result(), "the output", max_payload))
        if isinstance(error, ContinueAsNew):
            return Outcome(CONTINUED, _next_input(shapes[0], error.input, max_payload))
    except PayloadError as refused:
        error = refused
    return failure("failed", record_error(error))


def _next_input(shape: Shape | None, value: Any, max_payload: int) -> str:
    what = "the input of continue_as_new"
    if shape is None:
        if value is not None:
            raise PayloadError(f"{what} can't be given: the workflow takes none")
        return "null"
    return shape.encode(shape.validate(value, what), what, max_payload)


def with_rollback_failures(result: Outcome, failures: list[dict[str, Any]]) -> Outcome:
    """Return an outcome that tells of compensations that failed."""
    if not failures:
        return result
    record = {**ANY.decode(result.error, "the error"), "rollback": failures}
    return replace(result, error=ANY.encode(record, "the error", _NO_LIMIT))
