# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker that a test drives by hand: real executions on the real database, with the order of all
that may happen in any order drawn from a seed, a clock that jumps, and crashes where they are asked
for.

What happens next is one of: a step that runs is allowed to end, entries are written, the clock goes
on to the next timer, a signal is sent. Entries of a run are written in their order, save that those
of steps may be late, as those of transactional steps are.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from forktex_core.flow.engine.execution import Execution
from forktex_core.flow.engine.host import Host
from forktex_core.flow.engine.journal import entry_row
from forktex_core.flow.engine.outcome import Outcome, cancellation
from forktex_core.flow.replay import STEP, Entry
from forktex_core.flow.store.effects import Effect, EffectColumns, NewValue, Woken
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Registry

type Item = tuple[Execution, Entry, int | None, Sequence[Effect]]


class Driver(Host):
    """See the top of the file.

    Args:
        store: the real queries.
        registry: what runs.
        rng: draws what happens next.
        crash: says whether this life ends at a write: None, or ``before`` or ``after`` it.
    """

    max_payload = 1 << 20
    hold = 0.0
    draining = False

    def __init__(self, store: Store, registry: Registry, rng: random.Random, crash: Any) -> None:
        self.real_loop = asyncio.get_running_loop()
        self.registry = registry
        self.store, self.rng, self.crash = store, rng, crash
        self.executions: dict[UUID, Execution] = {}
        self.queue: list[Item] = []
        self.finishing: list[tuple[Execution, Outcome]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.outcomes: dict[UUID, Outcome] = {}
        self.signals: list[tuple[UUID, str, str]] = []
        self.clock = 0.0
        self.lives = 0
        self.id = 0

    # Host

    @property
    def worker_id(self) -> int:
        return self.id

    def now(self) -> float:
        return self.clock

    def append(
        self, execution: Execution, entry: Entry, taken: int | None, effects: Sequence[Effect]
    ) -> None:
        self.queue.append((execution, entry, taken, effects))

    def show(self, value: NewValue) -> None: ...

    def finish(self, execution: Execution, result: Outcome) -> None:
        self.finishing.append((execution, result))

    def park(self, execution: Execution, due: float | None, waiting_for: str) -> None:
        execution.parked = True

    def release(self, execution: Execution) -> None: ...

    def lost(self, execution: Execution) -> None:
        raise AssertionError(f"{execution.run_id} was lost")

    def woken(self, woken: list[Woken]) -> None: ...

    # The drive

    async def gate(self) -> None:
        """Wait until the drive lets a step go on."""
        future = self.real_loop.create_future()
        self.gates.append(future)
        await future

    async def run(self, root: UUID) -> Outcome:
        """Drive until a run has ended."""
        await self._live()
        try:
            while root not in self.outcomes:
                await self.rng.choice(await self._choices())()
            return self.outcomes[root]
        finally:  # children that go on, say
            for execution in self.executions.values():
                execution.seal()

    async def _choices(self) -> list[Any]:
        """Return what may happen next. What is under way takes some turns of the loop, more when a
        step that was given up unwinds; a run with which nothing can happen after many is wedged.
        """
        for turn in range(500):
            await asyncio.sleep(0)
            self.gates = [gate for gate in self.gates if not gate.done()]
            choices = [
                *([self._open_gate] if self.gates else []),
                *([self._write] * 2 if self.queue or self.finishing else []),
                *([self._send] if self.signals else []),
                *([self._advance] if self._next_timer() is not None else []),
            ]
            if turn >= 5 and choices:
                return choices
        raise AssertionError("nothing can happen any more: the run is wedged")

    async def _live(self) -> None:
        self.lives += 1
        lanes = [w.lane for w in self.registry]
        columns = ("t", "t", 1, ["default"], lanes, 100, False, 0)
        self.id = (await self.store.register_worker(*columns))["id"]
        await self._claim()

    async def _claim(self) -> None:
        lanes = [w.lane for w in self.registry]
        claimed, _ = await self.store.claim_runs(self.id, ["default"], lanes, 1000, {})
        for run in claimed:
            workflow = self.registry.find(run.workflow, run.version)
            assert workflow is not None
            self.clock = max(self.clock, run.started_at)
            self.executions[run.run_id] = Execution(self, workflow, run)
            self.executions[run.run_id].wake()

    async def _die(self) -> None:
        for execution in self.executions.values():
            execution.seal()
        self.executions.clear()
        self.queue.clear()
        self.finishing.clear()
        self.gates.clear()
        await asyncio.sleep(0)
        await self.store.end_worker(self.id, "crash")
        await self._live()

    async def _open_gate(self) -> None:
        self.rng.choice(self.gates).set_result(None)

    async def _advance(self) -> None:
        when = self._next_timer()
        assert when is not None
        self.clock = max(self.clock + 0.0001, when)
        for execution in self.executions.values():
            execution.parked = False
            execution.wake()

    def _next_timer(self) -> float | None:
        moments = [e.timers.next(e._open) for e in self.executions.values()]
        return min((m for m in moments if m is not None), default=None)

    async def _send(self) -> None:
        run_id, name, payload = self.signals.pop(0)
        await self.store.send_signal(run_id, name, payload, None)
        await self._hear([run_id])

    async def _hear(self, runs: list[UUID]) -> None:
        here = {r: self.executions[r].seen for r in runs if r in self.executions}
        for run_id, signals in (await self.store.open_signals(here)).items():
            execution = self.executions[run_id]
            execution.parked = False
            execution.deliver_signals(signals, signals[-1].no)

    async def _write(self) -> None:
        crash = self.crash()
        if crash == "before":
            await self._die()
        elif self.finishing and (not self.queue or self.rng.random() < 0.5):
            await self._finish(crash)
        else:
            await self._append(crash)

    async def _append(self, crash: str | None) -> None:
        # A pipelined body goes on before the commit: what it did then never overtakes it.
        late = [
            item
            for item in self.queue
            if item[1].kind == STEP
            and item[0].workflow.durability == "commit"
            and self.rng.random() < 0.3
        ]
        now = [item for item in self.queue if item not in late] or [late.pop(0)]
        batch = now[: self.rng.randint(1, len(now))]
        self.queue = [item for item in self.queue if item not in batch]
        rows = [entry_row(execution.run_id, entry) for execution, entry, *_ in batch]
        taken = [(e.run_id, no, entry.seq) for e, entry, no, _ in batch if no is not None]
        effects = EffectColumns()
        for place, item in enumerate(batch, 1):
            effects.add(place, item[3])
        added, woken = await self.store.append_effects(self.id, rows, taken, effects)
        assert added == len(rows), "a journal key was recorded twice"
        if crash:
            await self._die()
            return
        for execution, entry, *_ in batch:
            execution.committed(entry)
        await self._claim()
        await self._hear([w.run_id for w in woken if w.run_id is not None])

    async def _finish(self, crash: str | None) -> None:
        execution, result = self.finishing.pop(0)
        row = (execution.run_id, execution.claim, result.status, result.output, result.error)
        closing = [execution.run_id] if execution.has_children else []
        payloads = [cancellation(kind, "parent") for kind in ("cancel", "terminate")]
        told = await self.store.finish_runs(self.id, [row], closing, *payloads)
        assert told, "the claim was lost"
        self.outcomes[execution.run_id] = result
        self.executions.pop(execution.run_id).seal()
        if crash:
            await self._die()
            return
        await self._hear([w.run_id for w in told if w.part == "w" and w.run_id is not None])
