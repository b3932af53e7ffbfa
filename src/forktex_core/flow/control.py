# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a client does to a run that goes on: cancel it, and read what it shows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from forktex_core.flow.codec import ANY
from forktex_core.flow.engine.outcome import CANCEL_SIGNAL, cancellation
from forktex_core.flow.errors import RunNotFoundError
from forktex_core.flow.identity import as_run_id
from forktex_core.flow.outgoing import PROGRESS

if TYPE_CHECKING:
    from forktex_core.flow.engine.results import Results
    from forktex_core.flow.engine.wakeup import Notifier
    from forktex_core.flow.store.store import Store


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run says it is: so much ``done`` of a ``total``, and a ``message``."""

    done: float
    total: float | None = None
    message: str | None = None


class _Opened(Protocol):
    store: "Store"
    results: "Results"
    notifier: "Notifier"


class Control:
    """The part of Flow that acts on runs under way."""

    @property
    def _open(self) -> _Opened:
        raise NotImplementedError

    def _tell_of_signal(self, run_id: UUID, sent: Any) -> None:
        raise NotImplementedError

    async def cancel(
        self, run_id: UUID | str, reason: str | None = None, *, force: bool = False
    ) -> bool:
        """Ask a run to stop. Its body sees asyncio.CancelledError where it waits, or its step at
        the step's next await, and may clean up with durable steps; then it ends as cancelled, and
        result() raises RunCancelled. A run that has not begun ends at once.

        Args:
            run_id: the run.
            reason: why, for the error and for views.
            force: end it at once, without clean-up or compensations.

        Returns:
            False when it had ended already.

        Raises:
            RunNotFoundError: there is no such run.
        """
        opened = self._open
        run_id = as_run_id(run_id)
        payload = cancellation("terminate" if force else "cancel", reason)
        told = await opened.store.put_signals([(run_id, CANCEL_SIGNAL, payload)])
        if not told and await opened.store.run_status(run_id) is None:
            raise RunNotFoundError(run_id)
        ended = [w.run_id for w in told if w.part == "e" and w.run_id is not None]
        if ended:
            opened.results.ended_here(ended)
            opened.notifier.done(ended)
        for w in told:
            if w.part == "w" and w.run_id is not None:
                self._tell_of_signal(w.run_id, {"worker_id": w.worker_id, "queue": w.queue})
        return bool(told)

    async def published(self, run_id: UUID | str, key: str, default: Any = None) -> Any:
        """Return what a run last published under a key, ``default`` when it published nothing
        there.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run_id = as_run_id(run_id)
        row = await self._open.store.published(run_id, key)
        if row is None:
            raise RunNotFoundError(run_id)
        return default if row["key"] is None else ANY.decode(row["value"], f"value {key!r}")

    async def progress(self, run_id: UUID | str) -> "Progress | None":
        """Return how far a run says it is, None when it says nothing.

        Raises:
            RunNotFoundError: there is no such run.
        """
        found = await self.published(run_id, PROGRESS)
        return None if found is None else Progress(**found)
