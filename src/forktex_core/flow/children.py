# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Child runs, as their parent's body sees them.

A child is started by an entry of its parent's journal, in the same statement; its id follows from
the parent's and the entry's key, so starting it again is the same run. Its end arrives as a signal
that no user can send.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, override
from uuid import UUID

from forktex_core.flow.codec import ANY
from forktex_core.flow.engine.operation import EffectCall, SignalWait
from forktex_core.flow.engine.outcome import CANCEL_SIGNAL, cancellation
from forktex_core.flow.errors import RunCancelled, RunFailed
from forktex_core.flow.replay import EFFECT, SIGNAL
from forktex_core.flow.store.effects import NewSignal
from forktex_core.flow.store.rows import Signal

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution

type ParentClose = Literal["terminate", "cancel", "abandon"]


@dataclass(slots=True, eq=False, kw_only=True)
class ChildWait(SignalWait):
    """A wait for a child's end."""

    @override
    def value(self, signal: Signal) -> Any:
        end = ANY.decode(signal.payload, "the end of a child")
        if end["status"] == "succeeded":
            text = json.dumps(end["output"], ensure_ascii=False)
            return self.shape.decode(text, f"the output of {self.label}")
        kind = RunCancelled if end["status"] == "cancelled" else RunFailed
        raise kind.restored(end["error"] or {})


class ChildHandle[O]:
    """A child run that was started.

    Attributes:
        run_id: its id.
        workflow: its workflow's name.
    """

    def __init__(self, execution: "Execution", run_id: UUID, workflow: str, key: str) -> None:
        self._execution = execution
        self.run_id = run_id
        self.workflow = workflow
        self._key = key
        self._shape = ANY
        self._end: asyncio.Future[O] | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def start(self, call: EffectCall) -> None:
        """Record the start, or find it recorded: with the version that the child runs in."""
        version = await self._execution.perform(call)
        found = self._execution.host.registry.find(self.workflow, version)
        if found is not None:
            self._shape = found.output_shape

    async def result(self) -> O:
        """Wait until the child has ended and return its output. May be called by many branches.

        Giving up this wait leaves the child alone.

        Raises:
            RunFailed: it failed; also an instance of the original exception type where it can be.
            RunCancelled: it was cancelled.
        """
        execution = self._execution
        execution.check_inside()
        while self._end is None:
            if self._waiting is not None:
                await asyncio.wait([self._waiting])
                continue
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._wait()
            finally:
                self._waiting.set_result(None)
                self._waiting = None
        return self._end.result()

    async def _wait(self) -> None:
        name = f"$child:{self._key}"
        wait = ChildWait(
            key=self._execution.next_key(),
            kind=SIGNAL,
            name=f"end of {self.workflow}",
            signals=(name,),
            shape=self._shape,
        )
        end: asyncio.Future[O] = asyncio.get_running_loop().create_future()
        try:
            end.set_result(await self._execution.perform(wait))
        except Exception as error:  # noqa: BLE001 - result() raises it, to each who asks
            end.set_exception(error)
            end.exception()
        self._end = end

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the child to stop: its body sees CancelledError and may clean up. Returns when that
        is recorded, not when the child has ended.
        """
        execution = self._execution
        execution.check_inside()
        payload = cancellation("cancel", reason)
        await execution.perform(
            EffectCall(
                key=execution.next_key(),
                kind=EFFECT,
                name=CANCEL_SIGNAL,
                effects=(NewSignal(self.run_id, CANCEL_SIGNAL, payload),),
            )
        )
