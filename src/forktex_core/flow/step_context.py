# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a decorated step gets in hand."""

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from forktex_core.flow.engine.operation import StepCall
from forktex_core.flow.errors import ContextMisuseError
from forktex_core.flow.identity import new_run_id
from forktex_core.flow.outgoing import new_run, new_signal
from forktex_core.flow.workflow import Workflow

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from forktex_core.flow.engine.execution import Execution
    from forktex_core.flow.engine.transaction import Transaction

_logger = logging.getLogger("forktex_core.flow.run")


class StepContext:
    """What a decorated step gets as its first argument."""

    def __init__(
        self, execution: "Execution", call: StepCall, transaction: "Transaction | None" = None
    ) -> None:
        self._execution = execution
        self._call = call
        self._transaction = transaction

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
        return f"{self._execution.run_id}:{self._execution.scoped(self._call.key)}"

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries the run's and the step's names."""
        return logging.LoggerAdapter(
            _logger, {"run_id": str(self.run_id), "step": self.name, "attempt": self.attempt}
        )

    # In a transactional step

    @property
    def session(self) -> "AsyncSession":
        """The session of a transactional step: its work is committed together with the step's
        result, by the engine. Raises ContextMisuseError in any other step.
        """
        return self._open.session

    @property
    def _open(self) -> "Transaction":
        if self._transaction is None:
            raise ContextMisuseError(
                f"step {self.name!r} has no transaction: decorate it with "
                "@flow.step(transactional=True)"
            )
        return self._transaction

    def send_signal(self, run_id: UUID, name: str, payload: Any = None) -> None:
        """Send a signal to a run when the step commits. One to a run that has ended is dropped.

        Raises ContextMisuseError in a step that isn't transactional.
        """
        limit = self._execution.host.max_payload
        self._open.effects.append(new_signal(run_id, name, payload, limit))

    def start(
        self,
        workflow: str | Workflow[Any, Any],
        input: Any = None,
        *,
        version: int | None = None,
        queue: str = "default",
        priority: int = 0,
        delay: float | timedelta | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> UUID:
        """Start a run when the step commits, and return its id. Arguments are those of
        ``flow.start``.

        Raises ContextMisuseError in a step that isn't transactional.
        """
        effects = self._open.effects
        run = new_run(
            self._execution, new_run_id(), workflow, input, version=version, queue=queue,
            priority=priority, delay=delay, metadata=metadata,
        )  # fmt: skip
        effects.append(run)
        return run.id
