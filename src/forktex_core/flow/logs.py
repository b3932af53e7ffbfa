# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which run and step a log record comes from, for plain ``logging``.

Whatever logs while a step or a body is executed (the user's code, a driver beneath it, a thread of
a plain ``def`` step) logs in a context that knows the run. Until the first LogContext is made, no
such context is kept, and nothing is paid for it.
"""

import json
import logging
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, override

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution
    from forktex_core.flow.engine.operation import StepCall

following = False
"""Whether somebody asks where records come from."""

FIELDS = ("run_id", "workflow", "queue", "step", "step_key", "attempt", "worker_id")
_where: ContextVar[tuple["Execution", "StepCall | None"] | None] = ContextVar(
    "forktex_core.flow.logs", default=None
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def enter(context: Context, execution: "Execution", call: "StepCall | None" = None) -> None:
    """Let a context know which run, and which step of it, it belongs to."""
    context.run(_where.set, (execution, call))


class LogContext(logging.Filter):
    """Gives every record ``run_id``, ``workflow`` (``name@version``), ``queue``, ``step``,
    ``step_key``, ``attempt`` and ``worker_id``. Outside of runs they are None, and in a body those
    of the step. What a record has already stays.

    Add it to handlers, for the filters of a logger don't see what its children log::

        handler.addFilter(LogContext())
    """

    def __init__(self) -> None:
        global following  # noqa: PLW0603 - what keeps the price at nothing for who doesn't ask
        super().__init__()
        following = True

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        found = vars(record)
        for name, value in _here().items():
            found.setdefault(name, value)
        return True


def _here() -> dict[str, Any]:
    where = _where.get()
    if where is None:
        return dict.fromkeys(FIELDS)
    execution, call = where
    return {
        "run_id": str(execution.run_id),
        "workflow": execution.workflow.lane,
        "queue": execution.queue,
        "step": None if call is None else call.name,
        "step_key": None if call is None else call.key,
        "attempt": None if call is None else call.attempt,
        "worker_id": execution.host.worker_id,
    }


class JsonLines(logging.Formatter):
    """Formats records as JSON, one line each: ``time`` (ISO 8601, UTC), ``level``, ``logger``,
    ``message``, whatever else the record was given, and ``exception`` with its traceback.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and value is not None:
                content.setdefault(name, value)
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)
