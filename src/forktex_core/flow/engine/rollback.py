# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Compensations: what a body registered with ``ctx.on_rollback`` to undo its work.

They run as steps on a branch of their own, last registered first, after the body has failed or was
cancelled and all that it left open was dropped. One that fails for good is reported with the run's
error, and the others still run. The branch begins at the same place on every replay: when the body
is done.
"""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forktex_core.flow.errors import record_error

if TYPE_CHECKING:
    from forktex_core.flow.context import FlowContext

_logger = logging.getLogger("forktex_core.flow.run")


@dataclass(slots=True)
class Rollback:
    """The compensations of a run, and the failures of those that ran."""

    registered: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, ctx: "FlowContext") -> None:
        """Undo, last first."""
        while self.registered:
            step, args, kwargs = self.registered.pop()
            try:
                await ctx.step(step, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - reported; the others still run
                self.failures.append({"step": step.name, **record_error(error)})
                if not ctx.replaying:
                    _logger.warning(
                        "run %s: compensation %r failed: %s", ctx.run_id, step.name, error
                    )
