# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How a run ends, by how its body ended: pure."""

import asyncio
from dataclasses import dataclass
from typing import Any

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.errors import PayloadError, RunCancelled, record_error, type_name


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's last status, with the text of its output or error."""

    status: str
    output: str | None = None
    error: str | None = None


def failure(status: str, error: dict[str, Any]) -> Outcome:
    """Return an outcome with an error."""
    return Outcome(status, None, ANY.encode(error, "the error", 1 << 30))


def outcome(body: asyncio.Task[Any], shape: Shape, cancelling: bool, max_payload: int) -> Outcome:
    """Return how a run ends whose body is done."""
    if body.cancelled():
        message = "the run was cancelled" if cancelling else "the body raised CancelledError"
        return failure("cancelled", {"type": type_name(RunCancelled), "message": message})
    error = body.exception()
    if error is None:
        try:
            return Outcome("succeeded", shape.encode(body.result(), "the output", max_payload))
        except PayloadError as refused:
            error = refused
    return failure("failed", record_error(error))
