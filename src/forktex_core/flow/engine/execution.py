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
5. sealed: set before anything is unwound (eviction, drain, lost claim). A sealed execution launches
  and appends nothing;
   closing its body runs ``finally`` blocks, which find every durable call refused.
"""

import asyncio
import contextvars
import functools
import heapq
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from forktex_core.flow.codec import ANY
from forktex_core.flow.context import FlowContext, StepContext
from forktex_core.flow.engine.operation import Operation, SignalWait, StepCall, TimerCall
from forktex_core.flow.engine.runloop import DurableTimer, RunLoop, branch_of_task
from forktex_core.flow.errors import (
    ContextMisuseError,
    NonDeterminismError,
    PayloadError,
    StepTimeout,
    record_error,
)
from forktex_core.flow.replay import ATTEMPT, CANCEL, Entry, Replay
from forktex_core.flow.store.rows import Claimed, Signal
from forktex_core.flow.workflow import Workflow

if TYPE_CHECKING:
    from uuid import UUID

CANCEL_SIGNAL = "$cancel"


class Host(Protocol):
    """What an execution needs of its worker."""

    real_loop: asyncio.AbstractEventLoop
    max_payload: int
    hold: float
    draining: bool

    def now(self) -> float:
        """Return the database's time, seconds since the epoch."""

    def append(self, execution: "Execution", entry: Entry, taken: int | None) -> None:
        """Hand an entry to the journal writer; committed() or lost() of the execution follows."""

    def finish(
        self, execution: "Execution", status: str, output: str | None, error: str | None
    ) -> None:
        """End the run."""

    def park(self, execution: "Execution", due: float | None, waiting_for: str) -> None:
        """Give the claim back until ``due``, or until a signal comes."""

    def release(self, execution: "Execution") -> None:
        """Give the claim back for another worker to go on at once."""


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
        self.claim = claimed.claim
        self.seen = claimed.signal_seq
        self.limited = claimed.limited
        self._seed = claimed.seed
        self.sealed = False
        self.parked = False
        self._input = claimed.input
        self._loop = RunLoop(claimed.started_at, self._timer_set, self._timer_cancelled)  # type: ignore[abstract]  # what it refuses is set on the class
        self._replay = Replay(claimed.entries)
        self._seq = max((e.seq for e in claimed.entries), default=0)
        self._open: dict[str, Operation] = {}
        self._new: deque[Operation] = deque()
        self._committed: deque[Entry] = deque()
        self._timers: list[tuple[float, int, Operation]] = []
        self._timer_count = 0
        self._inbox: dict[str, deque[Signal]] = {}
        self._waits: list[SignalWait] = []
        self._running: set[StepCall] = set()
        self._unflushed = 0
        self._main: asyncio.Task[Any] | None = None
        self._fault: BaseException | None = None
        self._cancelling = any(e.kind == CANCEL for e in claimed.entries)
        self._scheduled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._ending = False
        self.next_due: float | None = None
        self._take_in(claimed.signals)

    # From the worker

    def wake(self) -> None:
        """Let the body go on as far as it can, from the worker's loop."""
        if not self._scheduled and not self.sealed:
            self._scheduled = True
            self.host.real_loop.call_soon(self._advance)

    def resume(self, claimed: Claimed) -> None:
        """Go on with a warm execution under a new claim."""
        self.parked = False
        self.claim = claimed.claim
        self.limited = claimed.limited
        self.deliver_signals(claimed.signals, claimed.signal_seq)

    def deliver_signals(self, signals: list[Signal], seen: int) -> None:
        """Take in what came into the run's inbox."""
        self._take_in([s for s in signals if s.no > self.seen])
        self.seen = max(self.seen, seen)
        self.wake()

    def committed(self, entry: Entry) -> None:
        """Take note that an entry is durable: it will be delivered to the body."""
        self._unflushed -= 1
        if entry.kind != ATTEMPT:
            self._committed.append(entry)
        self.wake()

    def refused(self, entry: Entry, error: BaseException) -> None:
        """Take note that Postgres won't store an entry: record that instead, as the failure of the
        step.
        """
        self._unflushed -= 1
        call = self._open.get(entry.key)
        if isinstance(call, StepCall) and not entry.failed:
            self._record(
                call,
                record_error(PayloadError(f"Postgres refused the result of {call.label}: {error}")),
            )
        else:
            self._fault = error
            self.wake()

    def seal(self) -> None:
        """Stop for good: nothing is launched or appended any more, and the body is dropped."""
        if self.sealed:
            return
        self.sealed = True
        self._cancel_alarm()
        for call in list(self._running):
            if call.task is not None:
                call.task.cancel()
        self._loop.close_tasks()

    @property
    def idle(self) -> bool:
        """Whether nothing of this run is under way in the process."""
        return not (self._running or self._unflushed or self._committed or self._scheduled)

    @property
    def waiting_for(self) -> str:
        """What the open calls wait for, in words."""
        return ", ".join(call.label for call in list(self._open.values())[:5])

    # For the body

    @property
    def replaying(self) -> bool:
        """Whether the body is being brought back to where it was."""
        return len(self._replay) > 0

    @property
    def now(self) -> float:
        """The run's logical time."""
        return self._loop.now

    def check_inside(self) -> None:
        """Refuse a durable call that comes from anywhere but this run's body."""
        if self.sealed:
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

    def random(self) -> random.Random:
        """Return a generator that gives this call the same numbers on every replay."""
        return random.Random(f"{self._seed}:{self.next_key()}")  # noqa: S311 - determinism, not secrecy

    async def perform(self, call: Operation) -> Any:
        """Wait for the completion of a durable call."""
        call.future = self._loop.create_future()
        self._request(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            self._abandon(call)
            raise

    def _request(self, call: Operation) -> None:
        try:
            recorded = self._replay.request(call.key, call.kind, call.name)
        except NonDeterminismError as error:
            self._fault = self._fault or error
            return
        self._open[call.key] = call
        if recorded is None:
            self._new.append(call)

    def _abandon(self, call: Operation) -> None:
        self._open.pop(call.key, None)
        if isinstance(call, StepCall):
            call.abandoned = True
            if call.task is not None and not self.sealed:
                call.task.cancel()
        elif isinstance(call, SignalWait) and call in self._waits:
            self._waits.remove(call)

    def _timer_set(self, timer: DurableTimer) -> None:
        if self.sealed:
            raise RunSealed
        self._request(
            TimerCall(
                key=timer.key, kind="timer", name="timer", timer=timer, fire=self._loop.run_now
            )
        )

    def _timer_cancelled(self, timer: DurableTimer) -> None:
        self._open.pop(timer.key, None)

    # The turn of a run: deliver, launch, then finish, park or wait

    def _advance(self) -> None:
        self._scheduled = False
        if self.sealed or self._ending or self.parked:
            return
        try:
            if self._main is None:
                self._begin()
            self._deliver_all()
        except NonDeterminismError as error:
            self._fault = self._fault or error
        if self._fault is not None:
            self._end("paused", None, record_error(self._fault))
        elif self._main is not None and self._main.done():
            if self._unflushed == 0:
                self._end_with_outcome()
        elif self.host.draining:
            if not self._running and not self._unflushed:
                self._ending = True
                self.host.release(self)
        else:
            self._launch()
            self._settle()

    def _begin(self) -> None:
        context = FlowContext(self)
        shape = self.workflow.input_shape
        try:
            value = None if shape is None else shape.decode(self._input, "the input")
        except PayloadError as error:
            self._fault = error
            return
        self._main = self._loop.create_main_task(self.workflow.begin(context, value))
        self._loop.drain()

    def _deliver_all(self) -> None:
        while self._fault is None and self._main is not None and not self._main.done():
            entry = self._replay.deliver() or (
                self._committed.popleft() if self._committed else None
            )
            if entry is None:
                return
            self._loop.now = max(self._loop.now, entry.at)
            if entry.kind == CANCEL:
                self._main.cancel()
            elif (call := self._open.pop(entry.key, None)) is not None:
                call.resolve(entry)
            self._loop.drain()

    def _launch(self) -> None:
        if not self._cancelling and self._inbox.get(CANCEL_SIGNAL):
            self._cancelling = True
            signal = self._inbox[CANCEL_SIGNAL].popleft()
            self._append(
                Entry(
                    "!cancel", 0, CANCEL, "cancel", False, None, self.claim, 1, self.host.now(), 0
                ),
                signal.no,
            )
        while self._new:
            call = self._new.popleft()
            if self._open.get(call.key) is not call:
                continue
            if isinstance(call, StepCall):
                self._launch_step(call)
            elif isinstance(call, SignalWait):
                self._waits.append(call)
                if call.deadline is not None:
                    self._set_timer(call.deadline, call)
            elif isinstance(call, TimerCall):
                self._set_timer(call.timer.when(), call)
        self._match_signals()
        self._fire_due()

    def _set_timer(self, when: float, call: Operation) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, call))

    def _match_signals(self) -> None:
        for call in list(self._waits):
            boxes = [box for name in call.signals if (box := self._inbox.get(name))]
            if boxes:
                signal = min(boxes, key=lambda box: box[0].no).popleft()
                self._waits.remove(call)
                self._append(
                    self._entry(call, False, call.record(signal.name, signal.payload)), signal.no
                )

    def _fire_due(self) -> None:
        now = self.host.now()
        while self._timers and (
            self._timers[0][0] <= now
            or self._open.get(self._timers[0][2].key) is not self._timers[0][2]
        ):
            _, _, call = heapq.heappop(self._timers)
            if self._open.get(call.key) is not call:
                continue
            if isinstance(call, StepCall):
                self._start_attempt(call)
            elif isinstance(call, TimerCall):
                self._append(self._entry(call, False, None), None)
            elif isinstance(call, SignalWait) and call in self._waits:
                self._waits.remove(call)
                self._append(self._entry(call, True, None), None)

    def _settle(self) -> None:
        """Wait in memory for what is under way; park when there is nothing but waiting."""
        self._cancel_alarm()
        due = self._timers[0][0] if self._timers else None
        delay = None if due is None else due - self.host.now()
        if (
            self._running
            or self._unflushed
            or self._committed
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

    def _end_with_outcome(self) -> None:
        assert self._main is not None
        if self._main.cancelled():
            message = (
                "the run was cancelled" if self._cancelling else "the body raised CancelledError"
            )
            self._end(
                "cancelled",
                None,
                {"type": "forktex_core.flow.errors.RunCancelled", "message": message},
            )
            return
        error = self._main.exception()
        if error is None:
            try:
                output = self.workflow.output_shape.encode(
                    self._main.result(), "the output", self.host.max_payload
                )
                self._end("succeeded", output, None)
                return
            except PayloadError as refused:
                error = refused
        self._end("failed", None, record_error(error))

    def _end(self, status: str, output: str | None, error: dict[str, Any] | None) -> None:
        self._ending = True
        self._cancel_alarm()
        text = None if error is None else ANY.encode(error, "the error", 1 << 30)
        self.host.finish(self, status, output, text)

    # Steps

    def _launch_step(self, call: StepCall) -> None:
        failed = self._replay.last_attempt(call.key)
        if failed is None:
            call.first_started = self.host.now()
            self._start_attempt(call)
            return
        note = ANY.decode(failed.value, "an attempt")
        call.attempt = failed.attempt
        call.first_started = note["first_started"]
        self._set_timer(note["resume_at"], call)

    def _start_attempt(self, call: StepCall) -> None:
        call.attempt += 1
        call.started = self.host.now()
        self._running.add(call)
        call.task = asyncio.Task(
            self._attempt(call),
            loop=self.host.real_loop,
            name=f"step {call.name}",
            context=call.context,
            eager_start=True,
        )

    async def _attempt(self, call: StepCall) -> None:
        try:
            result = await self._call(call)
        except asyncio.CancelledError as error:
            if not (call.abandoned or self.sealed):
                self._failed(call, error)
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is the step's failure, not the worker's
            self._failed(call, error)
        else:
            self._succeeded(call, result)
        finally:
            self._running.discard(call)
            if not self.sealed:
                self.wake()

    async def _call(self, call: StepCall) -> Any:
        args = (StepContext(self, call), *call.args) if call.takes_context else call.args
        limit = call.timeout
        if call.deadline is not None:
            left = call.first_started + call.deadline - call.started
            limit = left if limit is None else min(limit, left)
        if limit is None:
            return await invoke(call, args)
        try:
            async with asyncio.timeout(limit) as scope:
                return await invoke(call, args)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise StepTimeout.restored(
                {
                    "type": f"{StepTimeout.__module__}.{StepTimeout.__qualname__}",
                    "message": f"step {call.name!r} did not finish within {limit:g} s "
                    f"(attempt {call.attempt})",
                }
            ) from error

    def _succeeded(self, call: StepCall, result: Any) -> None:
        try:
            text = call.shape.encode(
                result, f"the result of step {call.name!r}", self.host.max_payload
            )
        except PayloadError as error:
            self._record(call, record_error(error))
            return
        if not self.sealed:
            self._append(self._entry(call, False, text), None)

    def _failed(self, call: StepCall, error: BaseException) -> None:
        now = self.host.now()
        if isinstance(error, Exception) and self._retry_allowed(call, error):
            jitter = random.Random(f"{self.run_id}{call.key}{call.attempt}")  # noqa: S311 - no secret
            resume_at = now + call.retries.delay(call.attempt, jitter)
            if call.deadline is None or resume_at < call.first_started + call.deadline:
                self._note_attempt(call, error, resume_at)
                return
        self._record(call, record_error(error))

    def _retry_allowed(self, call: StepCall, error: Exception) -> bool:
        try:
            return call.retries.allows(call.attempt, error)
        except Exception:  # noqa: BLE001 - a broken predicate must not lose the failure it was asked about
            return False

    def _note_attempt(self, call: StepCall, error: Exception, resume_at: float) -> None:
        note = {
            "error": record_error(error),
            "resume_at": resume_at,
            "first_started": call.first_started,
        }
        text = ANY.encode(note, "an attempt", 1 << 30)
        if not self.sealed:
            key = f"{call.key}#{call.attempt}"
            self._append(
                Entry(
                    key,
                    0,
                    ATTEMPT,
                    call.name,
                    True,
                    text,
                    self.claim,
                    call.attempt,
                    call.started,
                    0,
                ),
                None,
            )
            self._set_timer(resume_at, call)

    def _record(self, call: StepCall, error: dict[str, Any]) -> None:
        if not self.sealed:
            self._append(self._entry(call, True, ANY.encode(error, "an error", 1 << 30)), None)

    # The journal

    def _entry(self, call: Operation, failed: bool, value: str | None) -> Entry:
        attempt, started = (
            (call.attempt, call.started) if isinstance(call, StepCall) else (1, self.host.now())
        )
        return Entry(
            call.key, 0, call.kind, call.name, failed, value, self.claim, attempt, started, 0
        )

    def _append(self, entry: Entry, taken: int | None) -> None:
        self._seq += 1
        entry.seq = self._seq
        entry.at = self.host.now()
        self._unflushed += 1
        self.host.append(self, entry, taken)

    def _take_in(self, signals: list[Signal]) -> None:
        for signal in signals:
            self._inbox.setdefault(signal.name, deque()).append(signal)


async def invoke(call: StepCall, args: tuple[Any, ...]) -> Any:
    """Call a step's function: a coroutine function on this loop, a plain one in a thread."""
    if call.is_async:
        return await call.fn(*args, **call.kwargs)
    context = contextvars.copy_context()
    work = functools.partial(context.run, call.fn, *args, **call.kwargs)
    return await asyncio.get_running_loop().run_in_executor(None, work)
