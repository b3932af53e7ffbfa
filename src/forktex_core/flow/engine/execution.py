# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One run in the memory of the worker that has claimed it.

Protocol, in the order in which a completion travels:

1. The body asks for something durable (a step, a timer, a signal). It gets a key from its branch,
  and the replay cursor
   says whether the completion is recorded. If it is, it will be delivered in its turn; if not, the
   call is *open*.
2. When the body can't go on and the journal has nothing left to deliver, open calls are launched:
  steps start as tasks of
   the worker's loop, timers are set, waits look into the inbox.
3. What completes is appended to the journal writer and delivered to the body **only after its
  commit is acknowledged**,
   one completion at a time, in the order of its sequence number, the body draining in between.
   Replay does the same from the journal; so both take the same way.
4. A body that waits for nothing but signals and distant timers, with nothing unflushed, is parked.
  Parking is conditional
   on the inbox being as this execution saw it. A parked execution stays as it is (warm) until the
   run is claimed again or the worker needs the room.
5. A cancellation is an entry like any other. Its delivery cancels the body's task, once; from then
   on a durable timer bounds how long the body may take to clean up. Then, or when the body failed,
   what it left open is dropped and its compensations run (rollback.py).
6. sealed: set before anything is unwound (eviction, drain, lost claim). A sealed execution launches
  and appends nothing;
   closing its body runs ``finally`` blocks, which find every durable call refused.
"""

import asyncio
import contextvars
import itertools
import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forktex_core.flow import logs
from forktex_core.flow.codec import ANY
from forktex_core.flow.context import FlowContext
from forktex_core.flow.engine.host import Host
from forktex_core.flow.engine.operation import (
    GraceCall,
    Operation,
    SignalWait,
    StepCall,
    TimerCall,
    recorded_signal,
    signal_record,
)
from forktex_core.flow.engine.outcome import (
    CANCEL_SIGNAL,
    Outcome,
    cancelled,
    error_text,
    failure,
    outcome,
    with_rollback_failures,
)
from forktex_core.flow.engine.rollback import Rollback
from forktex_core.flow.engine.runloop import Branch, DurableTimer, RunLoop, branch_of_task
from forktex_core.flow.engine.steps import Steps
from forktex_core.flow.engine.waits import Inbox, Timers
from forktex_core.flow.errors import (
    ContextMisuseError,
    NonDeterminismError,
    PayloadError,
    record_error,
)
from forktex_core.flow.replay import (
    ATTEMPT,
    CANCEL,
    CHILD,
    DROPPED,
    EFFECT,
    PATCH,
    PENDING,
    READY,
    SIGNAL,
    STEP,
    Entry,
    Replay,
)
from forktex_core.flow.store.effects import Effect
from forktex_core.flow.store.rows import Claimed, Signal
from forktex_core.flow.workflow import Workflow

if TYPE_CHECKING:
    from uuid import UUID


# Kinds of entries that complete nothing.
_SILENT = (ATTEMPT, PATCH)
# Kinds of calls whose entry may say that they failed.
_CAN_FAIL = (STEP, CHILD, EFFECT)
# How many entries a pipelined run may be ahead of the database.
_MAX_AHEAD = 500


class RunSealed(BaseException):
    """A durable call of a body that is being unwound."""


class Execution:
    """See the top of the file."""

    def __init__(self, host: Host, workflow: Workflow[Any, Any], claimed: Claimed) -> None:
        self.host = host
        self.workflow = workflow
        self.run_id: UUID = claimed.run_id
        self.queue = claimed.queue
        self.metadata = claimed.metadata
        self.generation = claimed.generation
        self.claim = claimed.claim
        self.seen = claimed.signal_seq
        self.limited = claimed.limited
        self._seed = claimed.seed
        self.sealed = False
        self.parked = False
        self.next_due: float | None = None
        self.replay = Replay(claimed.entries)
        self.steps = Steps(self)
        self.timers = Timers()
        self.inbox = Inbox(claimed.signals)
        self.rollback = Rollback()
        self.has_children = any(e.kind == CHILD for e in claimed.entries)
        self.cancelled: dict[str, Any] | None = None
        self._input = claimed.input
        self._loop = RunLoop(claimed.started_at, self._timer_set, self._timer_cancelled)  # type: ignore[abstract]  # what it refuses is set on the class
        self._seq = max((e.seq for e in claimed.entries), default=0)
        self._open: dict[str, Operation] = {}
        self._new: deque[Operation] = deque()
        self._line: deque[Entry] = deque()
        self._appended = self._acknowledged = self._committing = 0
        self._barriers: list[tuple[int, asyncio.Future[None]]] = []
        self._pipelined = workflow.durability == "pipelined"
        self._context: FlowContext | None = None
        self._main: asyncio.Task[Any] | None = None
        self._outcome: Outcome | None = None
        self._over = False
        self._catching_up = bool(claimed.entries) or (claimed.claim > 1 and not claimed.generation)
        self._refusing = False
        self._fault: BaseException | None = None
        self._patches: dict[str, bool] = {}
        self._cancelling = any(e.kind == CANCEL for e in claimed.entries)
        self._scheduled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._ending = False

    # From the worker

    def wake(self) -> None:
        """Let the body go on as far as it can, from the worker's loop."""
        if not self._scheduled and not self.sealed:
            self._scheduled = True
            self.host.woke(self)

    def resume(self, claimed: Claimed) -> None:
        """Go on with a warm execution under a new claim."""
        self.parked = False
        self.claim = claimed.claim
        self.limited = claimed.limited
        for entry in claimed.entries:
            self._take_over(entry)
        self.deliver_signals(claimed.signals, claimed.signal_seq)

    def deliver_signals(self, signals: list[Signal], seen: int) -> None:
        """Take in what came into the run's inbox."""
        for signal in signals:
            if signal.no > self.seen:
                self.inbox.put(signal)
        self.seen = max(self.seen, seen)
        self.wake()

    @property
    def only_wait(self) -> tuple[str | None, int, str, Sequence[str]]:
        """Of a parked run that waits for nothing but one signal: key, number and name of the entry
        that records it, and the signals that will do. Without a key, it is not so.
        """
        call = next(iter(self._open.values())) if len(self._open) == 1 else None
        # A read of the inbox may have been under way while the run parked: what it brought is here.
        if not isinstance(call, SignalWait) or self._line or self.inbox.holds(call):
            return None, 0, "", ()
        return call.key, self._seq + 1, call.name, call.signals

    def _take_over(self, entry: Entry) -> None:
        """Take in an entry that the statement of the claim has journaled."""
        call = self._open[entry.key]
        assert isinstance(call, SignalWait)
        self.inbox.release(call)
        self._seq, entry.settled = entry.seq, READY
        self._line.append(entry)

    def committed(self, entry: Entry) -> None:
        """Take note that an entry is durable: it will be delivered to the body in its turn."""
        entry.settled = READY
        self._acknowledge()

    def refused(self, entry: Entry, error: BaseException) -> None:
        """Take note that Postgres won't store an entry: record that instead, as the failure of the
        call.
        """
        entry.settled = DROPPED
        call = self._open.get(entry.key)
        if self._over:
            pass  # nobody waits for it any more
        elif entry.kind in _CAN_FAIL and call is not None and not entry.failed:
            refusal = PayloadError(f"Postgres refused {call.label}: {error}")
            self.append(self.entry(call, True, error_text(refusal)))
        else:
            self._fault = error
        self._acknowledge()

    def _acknowledge(self) -> None:
        self._acknowledged += 1
        if self._barriers:
            self._open_barriers()
        self.wake()

    def _open_barriers(self) -> None:
        for target, future in self._barriers:
            if target <= self._acknowledged and not future.done():
                future.set_result(None)
        self._barriers = [b for b in self._barriers if not b[1].done()]

    async def flushed(self) -> None:
        """Wait until all that was appended up to now is durable. For the worker's loop."""
        if self._acknowledged < self._appended:
            future = self.host.real_loop.create_future()
            self._barriers.append((self._appended, future))
            await future

    def settled(self, entry: Entry, durable: bool) -> None:
        """Take note of what became of an entry that was reserved."""
        self._committing -= 1
        entry.settled = READY if durable else DROPPED
        self.wake()

    def seal(self) -> None:
        """Stop for good: nothing is launched or appended any more, and the body is dropped."""
        if self.sealed:
            return
        self.sealed = True
        self._cancel_alarm()
        self.steps.stop()
        self._loop.close_tasks()

    @property
    def closed(self) -> bool:
        """Whether nothing may be appended any more."""
        return self.sealed or self._ending or self._over

    @property
    def unflushed(self) -> int:
        """How many entries are not known to be durable."""
        return self._appended - self._acknowledged + self._committing

    @property
    def waiting_for(self) -> str:
        """What the open calls wait for, in words."""
        return ", ".join(call.label for call in itertools.islice(self._open.values(), 5))

    # For the body

    @property
    def replaying(self) -> bool:
        """Whether the body is being brought back to where it was.

        What follows the last recorded completion counts as well, up to where the body stands still:
        whoever held the run before had come that far.
        """
        return self._catching_up

    @property
    def now(self) -> float:
        """The run's logical time."""
        return self._loop.now

    def check_inside(self) -> None:
        """Refuse a durable call that comes from anywhere but this run's body."""
        if self.sealed or self._refusing:
            raise RunSealed
        if not self._loop.running:
            raise ContextMisuseError(
                "a durable call of a workflow's context outside of its body (in a step, a "
                "thread or another task): "
                "make it in the workflow function itself"
            )

    def next_key(self) -> str:
        """Return the key of the next durable call of the current branch."""
        return branch_of_task.get(self._loop.root).next_key()

    def scoped(self, key: str) -> str:
        """Return a key of this run that no other generation of it uses."""
        return f"g{self.generation}:{key}" if self.generation else key

    @property
    def on_main_branch(self) -> bool:
        """Whether the code that asks is the body itself, not a branch of it."""
        return branch_of_task.get(self._loop.root) is self._loop.root

    def patched(self, change: str) -> bool:
        """Say whether this run takes the new way at a change of its code; see FlowContext."""
        if change not in self._patches:
            key = f"!patch:{change}"
            recorded = self.replay.request(key, PATCH, change) is not None
            self._patches[change] = recorded or not self.replay.went_on
            if not recorded and self._patches[change]:
                now = self.host.now()
                self.append(Entry(key, 0, PATCH, change, False, None, self.claim, 1, now, 0))
        return self._patches[change]

    def random(self) -> random.Random:
        """Return a generator that gives this call the same numbers on every replay."""
        return random.Random(f"{self._seed}:{self.next_key()}")  # noqa: S311 - determinism, not secrecy

    async def perform(self, call: Operation) -> Any:
        """Wait for the completion of a durable call."""
        future = self.begin(call)
        try:
            return await future
        except asyncio.CancelledError:
            self.give_up(call)
            raise

    def begin(self, call: Operation) -> asyncio.Future[Any]:
        """Take up a durable call; return the future of its completion."""
        future: asyncio.Future[Any] = asyncio.Future(loop=self._loop)
        call.future = future
        self._request(call)
        return future

    def _request(self, call: Operation) -> None:
        try:
            recorded = self.replay.request(call.key, call.kind, call.name)
        except NonDeterminismError as error:
            self._fault = self._fault or error
            return
        self._open[call.key] = call
        call.asked = self._loop.now
        if recorded is None:
            self._new.append(call)

    def give_up(self, call: Operation) -> None:
        """Take note that the body waits no longer for a call."""
        if self._open.pop(call.key, None) is not None:
            call.released(self)

    def _timer_set(self, timer: DurableTimer) -> None:
        if self.sealed or self._refusing:
            raise RunSealed
        self._request(
            TimerCall(
                key=timer.key, kind="timer", name="timer", timer=timer, fire=self._loop.run_now
            )
        )

    def _timer_cancelled(self, timer: DurableTimer) -> None:
        self._open.pop(timer.key, None)

    # The turn of a run: deliver, launch, then finish, park or wait

    def advance(self) -> None:
        """Let the body go on as far as it can. Only the host calls it, outside of every task."""
        self._scheduled = False
        if self.parked or self.sealed or self._ending:
            return
        try:
            if self._main is None:
                self._begin()
            self._deliver_all()
        except NonDeterminismError as error:
            self._fault = self._fault or error
        if self._fault is None and not self._over and not self.host.draining:
            self._take_cancellations()
        if self._fault is not None:
            self._end(failure("paused", record_error(self._fault)))
        elif self._over:
            if not self.unflushed:
                assert self._outcome is not None
                self._end(with_rollback_failures(self._outcome, self.rollback.failures))
        elif self.host.draining:
            if not self.steps.running and not self.unflushed:
                self._ending = True
                self.host.release(self)
        else:
            self._launch()
            self._settle()

    def _begin(self) -> None:
        self._context = FlowContext(self)
        shape = self.workflow.input_shape
        try:
            value = None if shape is None else shape.decode(self._input, "the input")
        except PayloadError as error:
            self._fault = error
            return
        context = contextvars.copy_context()
        if logs.following:
            logs.enter(context, self)
        body = self.workflow.begin(self._context, value)
        self._main = context.run(self._loop.create_main_task, body)
        self._loop.drain()

    def _deliver_all(self) -> None:
        while self._fault is None and not self._over and (main := self._main) is not None:
            if main.done() and not self._next_phase(main):
                return
            entry = self.replay.deliver() or self._next_in_line()
            if entry is None:
                return
            self._loop.now = max(self._loop.now, entry.at)
            self._deliver(entry)
            self._loop.drain()

    def _next_phase(self, main: asyncio.Task[Any]) -> bool:
        """Take note of how body or compensations ended; say whether something follows."""
        if self._outcome is None:
            shapes = (self.workflow.input_shape, self.workflow.output_shape)
            self._body_ended(outcome(main, self.cancelled, shapes, self.host.max_payload))
        else:
            self._over = True
        if self._over and (entry := self.replay.unasked()) is not None:
            raise NonDeterminismError(entry.key, entry.label, None)
        return not self._over

    def _body_ended(self, result: Outcome) -> None:
        self._outcome = result
        if result.error is None or not self.rollback.registered:
            self._over = True
            return
        self._drop_body()
        assert self._context is not None
        branch = Branch("!rollback.")
        self._main = self._loop.create_main_task(self.rollback.run(self._context), branch)
        self._loop.drain()

    def _drop_body(self) -> None:
        """Close what the body left, without letting it do anything durable, and its open calls."""
        self._refusing = True
        self._loop.close_tasks()
        self._refusing = False
        for call in list(self._open.values()):
            self.give_up(call)
        self._new.clear()

    def _out_of_grace(self) -> None:
        assert self.cancelled is not None
        self._drop_body()
        self._body_ended(cancelled(self.cancelled))

    def _next_in_line(self) -> Entry | None:
        """Take out the next entry, if it is durable; one that is not holds back those behind it."""
        line = self._line
        while line and line[0].settled != PENDING:
            entry = line.popleft()
            if entry.settled == READY and entry.kind not in _SILENT:
                return entry
        return None

    def _deliver(self, entry: Entry) -> None:
        if entry.kind == CANCEL:
            self._cancel(entry)
            return
        call = self._open.pop(entry.key, None)
        if entry.kind == SIGNAL and not entry.failed:
            signal = recorded_signal(entry)
            if call is None:  # the wait was given up meanwhile
                self.inbox.give_back(signal)
            else:
                self.inbox.drop(signal)
        if call is not None:
            call.resolve(entry)

    def _cancel(self, entry: Entry) -> None:
        if self._outcome is not None:  # compensations run already, and are not cancelled
            return
        assert self._main is not None
        self.cancelled = ANY.decode(entry.value, "a cancellation")
        self._request(
            GraceCall(
                key="!grace",
                kind="timer",
                name="grace",
                when=self._loop.now + self.workflow.cancel_grace,
                expired=self._out_of_grace,
            )
        )
        self._main.cancel()

    def _take_cancellations(self) -> None:
        """Record the first request to cancel; a request to terminate counts at once, and always."""
        while (signal := self.inbox.pop(CANCEL_SIGNAL)) is not None:
            request = ANY.decode(signal.payload, "a cancellation")
            if request["kind"] == "terminate":
                self._drop_body()
                self._outcome, self._over = cancelled(request), True
                return
            if not self._cancelling:
                self._cancelling = True
                now = self.host.now()
                entry = Entry(
                    "!cancel", 0, CANCEL, "cancel", False, signal.payload, self.claim, 1, now, 0
                )
                self.append(entry, signal.no)

    def _launch(self) -> None:
        self._catching_up = False
        while self._new:
            call = self._new.popleft()
            if self._open.get(call.key) is call:
                call.launch(self)
        if self.inbox.changed:
            for wait, signal in self.inbox.matches():
                self.append(self.entry(wait, False, signal_record(signal)), signal.no)
        if self.timers.heap:
            for call in self.timers.due(self.host.now(), self._open):
                call.fired(self)

    def _settle(self) -> None:
        """Wait in memory for what is under way; park when there is nothing but waiting."""
        self._cancel_alarm()
        due = self.timers.next(self._open) if self.timers.heap else None
        delay = None if due is None else due - self.host.now()
        if (
            self.steps.running
            or self.unflushed
            or self._line
            or (delay is not None and delay <= self.host.hold)
        ):
            if delay is not None:
                self._alarm = self.host.real_loop.call_later(max(delay, 0.0), self.wake)
        elif not self._scheduled:
            self.next_due = due
            self.host.park(self, due, self.waiting_for)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _end(self, result: Outcome) -> None:
        self._ending = True
        self._cancel_alarm()
        self.host.finish(self, result)

    # The journal

    def entry(self, call: Operation, failed: bool, value: str | None) -> Entry:
        """Return an entry that completes a call."""
        attempt, started = (
            (call.attempt, call.started) if isinstance(call, StepCall) else (1, call.asked)
        )
        return Entry(
            call.key, 0, call.kind, call.name, failed, value, self.claim, attempt, started, 0
        )

    def append(
        self, entry: Entry, taken: int | None = None, effects: Sequence[Effect] = ()
    ) -> None:
        """Give an entry its place in the run's order, and hand it to the journal writer.

        ``taken`` is the number of the signal that it records; ``effects`` are written with it.
        """
        self._place(entry)
        self._appended += 1
        if self._pipelined and not effects and self.unflushed < _MAX_AHEAD:
            entry.settled = READY
            self.wake()
        self.host.append(self, entry, taken, effects)

    def reserve(self, entry: Entry) -> None:
        """Give an entry its place that is committed elsewhere; settled() follows."""
        self._place(entry)
        self._committing += 1

    def _place(self, entry: Entry) -> None:
        self._seq += 1
        entry.seq = self._seq
        # Microseconds are what Postgres keeps: the body's clock must read the same on replay.
        entry.at = int(self.host.now() * 1e6) / 1e6
        self._line.append(entry)
