# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker: claims due runs, executes many at a time, and tells the world that it lives.

Its loops, each in its own file: the pulse (pulse.py), the journal writer (journal.py), the ends of
claims (endings.py), the leader's chores (leader.py), and here the claims. Each has its own
connection where order matters; nothing waits for another's statement.

Claims are asked for when something may be due (a wake-up, a timer that the last tick announced, a
free slot while there is a backlog) and at every tick, so a lost wake-up costs a second at most. A
run's memory stays warm after it parked, as far as there is room; the claim statement leaves out the
journals of warm runs that nobody touched.

Stopping: the first stop() lets running steps end and be recorded, for the drain time at most, and
    gives every run back;
the second gives up at once. Either way the worker's life is ended in the database, so others go on
without delay.
"""

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, override
from uuid import UUID

from forktex_core.flow.engine.endings import Endings
from forktex_core.flow.engine.execution import Execution
from forktex_core.flow.engine.host import Host
from forktex_core.flow.engine.journal import JournalWriter
from forktex_core.flow.engine.leader import Leader
from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.engine.outcome import Outcome, error_text
from forktex_core.flow.engine.pruning import Exporter, Prune
from forktex_core.flow.engine.pulse import Clock, Pulse, identify
from forktex_core.flow.engine.registering import register
from forktex_core.flow.engine.results import RunEnd
from forktex_core.flow.engine.revoking import Revoking
from forktex_core.flow.engine.settings import WorkerSettings
from forktex_core.flow.engine.timetable import FireSchedules
from forktex_core.flow.engine.transaction import Transactions
from forktex_core.flow.engine.wakeup import Notifier
from forktex_core.flow.engine.waking import Waking
from forktex_core.flow.replay import Entry
from forktex_core.flow.store.connection import Link
from forktex_core.flow.store.effects import Effect, NewValue, Woken
from forktex_core.flow.store.retention import RetentionStore
from forktex_core.flow.store.rows import Claimed, Signal
from forktex_core.flow.store.schedules import ScheduleStore
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Registry, Workflow

_logger = logging.getLogger("forktex_core.flow.worker")
_TICK = 1.0
_MAX_CLAIM = 500
_UNSURE = 60.0
# Runs: below it a flush costs more than what it hides, and steps more than 0.05 statements each.
_WORTH_HALVING = 64


class Worker(Host):
    """See the top of the file."""

    def __init__(
        self,
        settings: WorkerSettings,
        registry: Registry,
        *,
        schema: str,
        link: Callable[[str], Link],
        pool_store: Store,
        notifier: Notifier,
        max_payload: int,
        session_lock: bool,
        on_finished: Callable[[list[UUID]], None],
        on_known: Callable[[dict[UUID, RunEnd]], None],
        transactions: Transactions,
        outage: Outage,
        export: Callable[[], Exporter | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.max_payload = max_payload
        self.hold = settings.hold
        self.transactions = transactions
        self._outage = outage
        self.draining = False
        self.registry = registry
        self._notifier = notifier
        self._pool_store = pool_store
        self._on_run_finished, self._on_run_known = on_finished, on_known
        self._clock = Clock()
        self._links = {name: link(name) for name in ("pulse", "claims", "journal", "endings")}
        stores = {name: pool_store.on(link) for name, link in self._links.items()}
        self._claim_store = stores["claims"]
        self._identity = identify(settings, registry)
        self._pulse = Pulse(
            self._links["pulse"], schema, self._identity, self._clock,
            session_lock=session_lock, on_notify=self._heard, on_new_life=self._new_life,
            passage=pool_store.passage,
        )  # fmt: skip
        self._leader = self._candidate(schema, export, session_lock=session_lock)
        journal = stores["journal"]
        self._journal = JournalWriter(journal, self._worker_id, self.lost, self.woken, outage)
        self._endings = Endings(
            stores["endings"], self._worker_id, on_finished=self._finished, on_parked=self._parked,
            on_continued=self._continued, on_released=self._forget, on_lost=self.lost,
            outage=outage,
        )  # fmt: skip
        self._hold_nothing()
        self._waking = Waking(
            self._claim_store, self._claiming, worker_id=self._worker_id, active=self._active,
            warm=self._warm, room=self._room, on_awake=lambda run: self._begin(run, None),
            on_left=self._left_to_claims, on_unsure=self._unsure,
        )  # fmt: skip
        self._revoking = Revoking(
            pool_store, self._claiming, self._journal, worker_id=self._worker_id, drop=self._drop,
            on_done=self._maybe_due.set, outage=self._outage,
        )  # fmt: skip

    def _hold_nothing(self) -> None:
        self._active: dict[UUID, Execution] = {}
        self._warm: OrderedDict[UUID, Execution] = OrderedDict()
        self._awake: list[Execution] = []
        self._signalled: set[UUID] = set()
        self._check_signals = asyncio.Event()
        self._maybe_due = asyncio.Event()
        self._slot_free = asyncio.Event()
        self._pulse_now = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stop = asyncio.Event()
        self._stop_hard = asyncio.Event()
        self._due_alarm: asyncio.TimerHandle | None = None
        self._unsure_until = 0.0
        self.ready = asyncio.Event()
        self.stopped = asyncio.Event()

    def _candidate(
        self, schema: str, export: Callable[[], Exporter | None], *, session_lock: bool
    ) -> Leader:
        store = self._pool_store
        return Leader(
            store, schema, session_lock=session_lock, lease=self.settings.lease,
            on_freed=self._freed, on_told=self._told, on_finished=self._ended_elsewhere,
            fire=FireSchedules(store.beside(ScheduleStore), self._freed),
            prune=Prune(store.beside(RetentionStore), export, self._outage), outage=self._outage,
            look_again=self._tick_in,
        )  # fmt: skip

    @property
    @override
    def worker_id(self) -> int:
        """The id of the present life in the database."""
        return self._pulse.worker_id

    @property
    def is_leader(self) -> bool:
        """Whether this worker does the chores."""
        return self._leader.term is not None

    def stop(self) -> None:
        """Stop in good order; called again, stop at once."""
        if self._stop.is_set():
            self._stop_hard.set()
        self._stop.set()

    async def run(self) -> None:
        """Serve until stop() is called, or the task is cancelled."""
        self.real_loop = asyncio.get_running_loop()
        await self._outage.wait_out("worker", self._register)
        loops = [
            asyncio.create_task(loop, name=f"flow worker {name}")
            for name, loop in {
                "pulse": self._pulse_loop(),
                "claims": self._claim_loop(),
                "wakes": self._waking.run(),
                "signals": self._signal_loop(),
                "revocations": self._revoking.run(),
                "journal": self._journal.run(),
                "endings": self._endings.run(),
                "leader": self._leader.run(),
            }.items()
        ]
        self.ready.set()
        try:
            stopping = asyncio.create_task(self._stop.wait())
            done, _ = await asyncio.wait([stopping, *loops], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a loop never ends by itself: let its error out
            await self._drain()
        finally:
            for task in (stopping, *loops):
                task.cancel()
            await asyncio.gather(stopping, *loops, return_exceptions=True)
            await asyncio.shield(self._leave())

    def local_work(self, queue: str) -> None:
        """Take note that a run became due in this process."""
        if queue in self._identity.queues:
            self._maybe_due.set()

    def local_signal(self, run_id: UUID) -> None:
        """Take note that a run of this worker's, claimed or parked, got a signal."""
        execution = self._active.get(run_id)
        if execution is None or execution.parked:
            self._waking.call(run_id)
        else:
            self._signalled.add(run_id)
            self._check_signals.set()

    def local_revocation(self) -> None:
        """Take note that a run was taken from a worker of this process."""
        self._pulse_now.set()

    # execution.Host

    @override
    def now(self) -> float:
        return self._clock.now()

    @override
    def woke(self, execution: Execution) -> None:
        if not self._awake:
            self.real_loop.call_soon(self._turn)
        self._awake.append(execution)

    @override
    def append(
        self, execution: Execution, entry: Entry, taken: int | None, effects: Sequence[Effect]
    ) -> None:
        self._journal.append((execution, entry, taken, effects))

    @override
    def show(self, value: NewValue) -> None:
        self._journal.show(value)

    @override
    def finish(self, execution: Execution, result: Outcome) -> None:
        self._endings.finish((execution, result))

    @override
    def park(self, execution: Execution, due: float | None, waiting_for: str) -> None:
        if not execution.parked:
            execution.parked = True
            self._endings.park((execution, execution.seen, due, waiting_for))

    @override
    def release(self, execution: Execution) -> None:
        self._endings.release(execution)

    @override
    def lost(self, execution: Execution) -> None:
        _logger.warning("run %s was taken from this worker: dropped here", execution.run_id)
        self._forget(execution)
        self._pulse_now.set()

    @override
    def woken(self, woken: list[Woken]) -> None:
        """Tell those whom a statement of ours concerns."""
        ended = [w.run_id for w in woken if w.part == "e" and w.run_id is not None]
        self._ended_elsewhere(ended)
        queues: set[str] = set()
        for w in woken:
            if w.run_id is None or w.worker_id is None:
                queues.update(() if w.part == "e" or w.queue is None else (w.queue,))
            elif w.worker_id == self.worker_id:
                self.local_signal(w.run_id)
            else:
                self._notifier.signalled(w.worker_id, w.run_id)
        self._freed(list(queues))

    # Turns

    def _turn(self) -> None:
        """Advance what woke up; but only half of many runs that all woke at once while the journal
        writer has nothing to do: so Postgres works on the entries of one half while Python works on
        the other. Halves are not halved again: each would be a flush of its own.
        """
        awake, self._awake = self._awake, []
        many = len(awake) >= _WORTH_HALVING and 4 * len(awake) > 3 * len(self._active)
        if halved := many and self._journal.idle:
            half = len(awake) // 2
            self._awake = awake[half:]
            del awake[half:]
        for execution in awake:
            try:
                execution.advance()
            except Exception as error:  # noqa: BLE001 - a fault of ours in one run is not the others'
                context = {"message": f"run {execution.run_id} failed to advance"}
                self.real_loop.call_exception_handler({**context, "exception": error})
        if halved:
            self.real_loop.call_soon(self._turn)

    # Lives

    async def _register(self) -> None:
        await register(self._pool_store, self.registry)
        await self._pulse.begin()

    def _worker_id(self) -> int:
        return self._pulse.worker_id

    def _new_life(self, worker_id: int) -> None:
        _logger.info(
            "worker %s began as %s, serving %s", worker_id, self.settings.name, self._identity.lanes
        )

    async def _pulse_loop(self) -> None:
        while True:
            row: Any = await self._outage.wait_out("worker", self._tick)
            if not row["alive"]:
                _logger.warning(
                    "worker %s was given up by the leader: starting anew", self.worker_id
                )
                self._seal_all()
                self._leader.take_office(0, None)
                await self._outage.wait_out("worker", self._pulse.begin)
                continue
            await self._hear_of_office(row)
            if row["next_due"] is not None:
                self._set_due_alarm(row["next_due"].timestamp())
            for run_id in row["stale"] or ():
                self.local_signal(run_id)
            if row["revoked"]:
                self._revoking.check.set()
            if self.real_loop.time() < self._unsure_until:
                await self._outage.wait_out("worker", self._reconcile)
            self._pulse_now.clear()
            try:
                await asyncio.wait_for(self._pulse_now.wait(), _TICK)
            except TimeoutError:
                continue

    async def _tick(self) -> Any:
        seen = {run_id: execution.seen for run_id, execution in self._active.items()}
        lead, office = self.settings.lead and not self._stop.is_set(), self._leader
        return await self._pulse.tick(
            seen, lead=lead, trust_locks=office.trust_locks, lease=office.lease, grace=office.grace
        )

    def _tick_in(self, delay: float) -> None:
        self.real_loop.call_later(delay, self._pulse_now.set)

    async def _hear_of_office(self, row: Any) -> None:
        self._leader.take_office(self.worker_id, row["term"], row["predecessor"])
        due = row["chores_at"]
        self._leader.next_chore(None if due is None else due.timestamp() - self.now())
        await self._leader.prune()

    async def _reconcile(self) -> None:
        """After a claim whose answer was lost: give back what this worker holds without knowing."""
        held = await self._pool_store.held_runs(self.worker_id)
        await self._pool_store.release_runs(
            self.worker_id, [(r["id"], r["claim"]) for r in held if r["id"] not in self._active]
        )

    def _set_due_alarm(self, due: float) -> None:
        delay = due - self.now()
        if self._due_alarm is not None:
            self._due_alarm.cancel()
            self._due_alarm = None
        if delay <= 0:
            self._maybe_due.set()
        elif delay < 2 * _TICK:
            self._due_alarm = self.real_loop.call_later(delay, self._maybe_due.set)

    def _heard(self, payload: str) -> None:
        if payload[:1] == "w":
            self.local_work(payload[1:])
        elif payload[:1] == "s":
            worker, _, run_id = payload[1:].partition(":")
            if worker == str(self.worker_id):
                self.local_signal(UUID(run_id))
        elif payload == f"r{self.worker_id}":
            self.local_revocation()

    def _told(self, workers: list[int], runs: list[UUID]) -> None:
        for worker, run_id in zip(workers, runs, strict=True):
            if worker == self.worker_id:
                self.local_signal(run_id)
            else:
                self._notifier.signalled(worker, run_id)

    def _ended_elsewhere(self, runs: list[UUID]) -> None:
        if runs:
            self._on_run_finished(runs)
            self._notifier.done(runs)

    def _freed(self, queues: list[str]) -> None:
        for queue in queues:
            self.local_work(queue)
            self._notifier.work(queue)

    # Claims

    async def _claim_loop(self) -> None:
        while True:
            await self._maybe_due.wait()
            free = self._room()
            if free <= 0:
                self._slot_free.clear()
                await self._slot_free.wait()
                continue
            self._maybe_due.clear()
            if await self._claim(min(free, _MAX_CLAIM)):
                self._maybe_due.set()

    def _room(self) -> int:
        """How many runs more may be claimed."""
        return 0 if self._stop.is_set() else self.settings.concurrency - len(self._active)

    def _left_to_claims(self, room: bool) -> None:
        self._maybe_due.set()
        if not room:
            for queue in self._identity.queues:
                self._notifier.work(queue)

    def _unsure(self, error: Exception) -> None:
        self._outage.failed(self._claim_store, "claiming runs", error)
        self._unsure_until = self.real_loop.time() + _UNSURE

    async def _claim(self, slots: int) -> bool:
        """Claim up to so many runs; say whether there may be more."""
        async with self._claiming:
            return await self._claim_and_begin(slots)

    async def _claim_and_begin(self, slots: int) -> bool:
        worker = self.worker_id
        warm = {run_id: execution.claim for run_id, execution in self._warm.items()}
        try:
            claimed, again = await self._claim_store.claim_runs(
                worker, self._identity.queues, self._identity.lanes, slots, warm
            )
        except Exception as error:  # noqa: BLE001 - the tick asks again; claims that took effect are found by the life's end
            self._unsure(error)
            return False
        self._outage.over(self._claim_store)
        if worker != self.worker_id:
            return False
        for run in claimed:
            if self.registry.stored is not None and run.workflow.startswith("@"):
                await self._begin_stored(run)
            else:
                self._begin(run, self.registry.find(run.workflow, run.version))
        if again is not None:
            self._set_due_alarm(again)
        return len(claimed) >= slots

    async def _begin_stored(self, run: Claimed) -> None:
        """Begin a run of a graph that is data, which may have to be read first."""
        worker = self.worker_id
        load = functools.partial(self.registry.stored.load_or_fault, run.workflow, run.version)
        found: tuple[Workflow[Any, Any], Exception | None] = await self._outage.wait_out(
            "graphs", load
        )
        workflow, fault = found
        if worker == self.worker_id:
            run.fault = run.fault or fault
            self._begin(run, workflow)

    def _begin(self, run: Claimed, workflow: Workflow[Any, Any] | None) -> None:
        execution = self._warm.pop(run.run_id, None)
        if execution is not None and execution.claim == run.claim - 1:
            execution.resume(run)
        else:
            if execution is not None:
                execution.seal()
            if workflow is None:  # a lane that this process never offered
                _logger.error(
                    "claimed run %s of %s@%s, which is not served here",
                    run.run_id,
                    run.workflow,
                    run.version,
                )
                return
            execution = Execution(self, workflow, run)
        self._active[run.run_id] = execution
        if run.fault is not None:
            self._halt(execution, run.fault)
        else:
            execution.wake()

    def _halt(self, execution: Execution, fault: Exception) -> None:
        self.finish(execution, Outcome("paused", None, error_text(fault)))

    def _drop(self, run_id: UUID) -> None:
        for held in (self._active.get(run_id), self._warm.pop(run_id, None)):
            if held is not None:
                self._forget(held)

    async def _signal_loop(self) -> None:
        while True:
            await self._check_signals.wait()
            self._check_signals.clear()
            asked = {r: self._active[r].seen for r in self._signalled if r in self._active}
            self._signalled.clear()
            if not asked:
                continue
            found: dict[UUID, list[Signal]] = await self._outage.wait_out(
                "signals", functools.partial(self._pool_store.open_signals, asked)
            )
            for run_id in asked:
                if (execution := self._active.get(run_id)) is not None:
                    signals = found.get(run_id, [])
                    if fault := next((s.fault for s in signals if s.fault), None):
                        self._halt(execution, fault)
                        continue
                    execution.deliver_signals(signals, signals[-1].no if signals else 0)

    # Ends

    def _finished(self, finished: list[tuple[Execution, Outcome]], woken: list[Woken]) -> None:
        for execution, _ in finished:
            self._forget(execution)
        self._on_run_known({e.run_id: RunEnd.of(e.workflow, result) for e, result in finished})
        if finished:
            self._notifier.done([e.run_id for e, _ in finished])
        self.woken(woken)

    def _continued(self, executions: list[Execution]) -> None:
        for execution in executions:
            self._forget(execution)
        self._freed(list({e.queue for e in executions}))

    def _parked(self, execution: Execution, outcome: str) -> None:
        if outcome != "parked":
            self._waking.forget(execution.run_id)
        if outcome == "lost":
            self.lost(execution)
        elif outcome == "stale":
            execution.parked = False
            self._signalled.add(execution.run_id)
            self._check_signals.set()
        elif self._active.get(execution.run_id) is not execution:
            execution.seal()  # claimed again before the answer came that it was parked, or dropped
            self._waking.forget(execution.run_id)
            self.local_signal(execution.run_id)
        else:
            del self._active[execution.run_id]
            self._make_room(execution)
            self._warm[execution.run_id] = execution
            while len(self._warm) > self.settings.warm:
                self._warm.popitem(last=False)[1].seal()
            self._waking.parked(execution.run_id)
            if execution.next_due is not None and execution.next_due - self.now() < 2 * _TICK:
                self._pulse_now.set()

    def _forget(self, execution: Execution) -> None:
        execution.seal()
        if self._active.get(execution.run_id) is execution:
            del self._active[execution.run_id]
        self._make_room(execution)

    def _make_room(self, execution: Execution) -> None:
        self._slot_free.set()
        if execution.limited:  # its queue may let another one through now
            self._maybe_due.set()

    def _seal_all(self) -> None:
        for execution in [*self._active.values(), *self._warm.values()]:
            execution.seal()
        self._active.clear()
        self._warm.clear()
        self._slot_free.set()

    async def _drain(self) -> None:
        self.draining = True
        await self._leader.resign()
        for execution in list(self._active.values()):
            execution.wake()
        try:
            async with asyncio.timeout(self.settings.drain):
                while self._active and not self._stop_hard.is_set():
                    self._slot_free.clear()
                    hard = asyncio.ensure_future(self._stop_hard.wait())
                    free = asyncio.ensure_future(self._slot_free.wait())
                    await asyncio.wait([hard, free], return_when=asyncio.FIRST_COMPLETED)
                    hard.cancel()
                    free.cancel()
        except TimeoutError:
            _logger.warning(
                "%d runs did not come to rest in %g s: given back as they are",
                len(self._active),
                self.settings.drain,
            )

    async def _leave(self) -> None:
        if self._due_alarm is not None:
            self._due_alarm.cancel()
        self._seal_all()
        try:
            await asyncio.wait_for(self._leader.resign(), 5)
            self._freed(await asyncio.wait_for(self._pulse.end("stopped"), 5))
            await asyncio.wait_for(self._notifier.flush(), 5)
        except Exception as error:  # noqa: BLE001 - then the leader finds out by the lock
            _logger.warning("worker %s could not say good-bye: %s", self.worker_id, error)
        for connection in self._links.values():
            await connection.close()
