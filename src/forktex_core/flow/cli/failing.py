# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How a command fails: one clear line on stderr and an exit code, never a traceback."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click

from forktex_core.flow.errors import (
    DatabaseUnavailableError,
    DefinitionError,
    FlowError,
    NoSchemaError,
    PayloadError,
    QueryError,
    RunConflictError,
    RunFinishedError,
    RunNotFoundError,
    SchemaTooNewError,
    SchemaTooOldError,
    StepNotFoundError,
    UnknownScheduleError,
    UnknownWorkflowError,
)
from forktex_core.flow.transitions import IllegalTransitionError

FAILED, WRONG, NOT_THERE, NOT_ALLOWED, NO_DATABASE = 1, 2, 3, 4, 5
INTERRUPTED = 130

_CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((DatabaseUnavailableError, NoSchemaError, SchemaTooNewError, SchemaTooOldError), NO_DATABASE),
    ((RunNotFoundError, UnknownScheduleError, UnknownWorkflowError, StepNotFoundError), NOT_THERE),
    ((RunFinishedError, IllegalTransitionError, RunConflictError), NOT_ALLOWED),
    ((QueryError, PayloadError, DefinitionError, ValueError), WRONG),
)


class Failure(click.ClickException):
    """One line, and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = code


def code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), FAILED)


def finish[T](
    work: Coroutine[Any, Any, T],
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> T:
    """Run a command's work to its end; turn its errors into a Failure."""
    try:
        return asyncio.run(work, loop_factory=loop)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (FlowError, ValueError, OSError) as error:
        raise Failure(str(error) or type(error).__name__, code_of(error)) from error
    except Exception as error:
        if not type(error).__module__.startswith("asyncpg"):
            raise
        raise Failure(f"the database refused: {error}", FAILED) from error
