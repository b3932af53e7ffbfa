# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Would the code at hand replay this journal? In memory, with no database, and no step is executed.

Protocol. The engine's own Execution is given the journal and a host that is *draining*: such an
execution delivers what is recorded and launches nothing. Then one of these is true: it asked for
something else than the journal holds, it ended before the journal did, or the journal is used up.

A body is the user's code and may loop for ever, so it runs in a thread of its own, which is
interrupted when its time is up (an exception is raised in it, again and again until it ends; code
that sits in a call of C until then is left behind in a daemon thread).
"""

import ctypes
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

from forktex_core.flow.engine.execution import Execution
from forktex_core.flow.errors import ManifestError, NonDeterminismError, PayloadError
from forktex_core.flow.replay import ATTEMPT, CANCEL, Entry
from forktex_core.flow.store.rows import Claimed
from forktex_core.flow.workflow import Registry, Workflow

_FORMAT = 1
_NOTES = (ATTEMPT, CANCEL, "patch")  # entries that nobody asks for
_ENDED = ("succeeded", "failed", "cancelled")
_FIELDS = ("key", "seq", "kind", "name", "failed", "value", "attempt", "started_at", "at")


@dataclass(frozen=True, slots=True)
class Journal:
    """A run with its journal, from a database or a file.

    Attributes:
        run_id, workflow, version: whose journal it is.
        started_at: when the run began, seconds since the epoch.
        input: the input as JSON text.
        entries: what is recorded.
        status: how the run stood when it was read.
        output: the output as JSON text, of a run that succeeded.
        generation: how often the run had continued as new.
        origin: id of the run that a fork came from, whose random numbers it draws.
    """

    run_id: UUID
    workflow: str
    version: int
    started_at: float
    input: str | None
    entries: tuple[Entry, ...]
    status: str = "running"
    output: str | None = None
    generation: int = 0
    origin: str | None = None

    def to_json(self) -> str:
        """Return the journal as text, to be stored and replayed for ever."""
        content = {
            "format": _FORMAT,
            "run_id": str(self.run_id),
            "workflow": self.workflow,
            "version": self.version,
            "status": self.status,
            "started_at": self.started_at,
            "generation": self.generation,
            "origin": self.origin,
            "input": self.input,
            "output": self.output,
            "entries": [{name: getattr(e, name) for name in _FIELDS} for e in self.entries],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Journal":
        """Return what to_json() wrote down.

        Raises:
            ManifestError: the text is no such thing.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != _FORMAT:
                raise ValueError(f"another format than {_FORMAT}")
            entries = tuple(Entry(claim=1, **entry) for entry in content.pop("entries"))
            return cls(run_id=UUID(content.pop("run_id")), entries=entries, **content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(
                f"this is no stored journal ({type(error).__name__}: {error}): store one with "
                "'forktex-flow journal'"
            ) from error


type Verdict = Literal["fits", "diverges", "unsure"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay showed.

    Attributes:
        run_id, workflow, version: of which run.
        verdict: ``fits``; ``diverges``; or ``unsure``: it can't be told.
        reason: why, in words; for a run that fits, how it stands.
        key: the place in the journal at which the run parts from the code.
        recorded: what the journal holds there.
        requested: what the code asks for there; None when it asks for nothing.
    """

    run_id: UUID
    workflow: str
    version: int
    verdict: Verdict
    reason: str
    key: str | None = None
    recorded: str | None = None
    requested: str | None = None

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.workflow}@{self.version} {self.verdict}: {self.reason}"


class Replayer:
    """Replays journals against registered workflows, one after another.

    Args:
        workflows: bodies of any number of versions, for example ``flow.workflows``.
        timeout: seconds that one replay may take.
    """

    def __init__(self, workflows: Iterable[Workflow[Any, Any]], *, timeout: float = 10.0) -> None:
        self._by_lane = {w.lane: w for w in workflows}
        self._names = {w.name for w in self._by_lane.values()}
        self._registry = Registry()
        for workflow in self._by_lane.values():
            self._registry.add(workflow)
        self._timeout = timeout

    def knows(self, workflow: str) -> bool:
        """Say whether any version of a workflow is here."""
        return workflow in self._names

    def replay(self, journal: Journal) -> Replayed:
        """Replay one journal; one of a version that isn't here is ``unsure``."""
        workflow = self._by_lane.get(f"{journal.workflow}@{journal.version}")
        if workflow is not None:
            return replay(workflow, journal, timeout=self._timeout, registry=self._registry)
        reason = "this version isn't registered here: the run waits for a worker that has it"
        return Replayed(journal.run_id, journal.workflow, journal.version, "unsure", reason)

    def replay_file(self, path: Path) -> Replayed:
        """Replay a stored journal.

        Raises:
            ManifestError: the file holds none.
        """
        return self.replay(Journal.from_json(path.read_text(encoding="utf-8")))


def replay(
    workflow: Workflow[Any, Any],
    journal: Journal,
    *,
    timeout: float = 10.0,
    registry: Registry | None = None,
) -> Replayed:
    """Replay a journal against a workflow's body. No step is executed and nothing is written.
    ``registry`` holds the workflows that it may start.

    Blocks until the body waits, has ended, or ``timeout`` seconds are over.
    """
    rehearsal = _Rehearsal(workflow, journal, registry or Registry())
    thread = threading.Thread(target=rehearsal.run, name="flow replay", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        _interrupt(thread)
        late = f"its body ran longer than {timeout:g} s without waiting"
        return rehearsal.answer("unsure", late)
    return rehearsal.verdict()


class _OutOfTime(BaseException):
    """Raised in the thread of a body whose time is up."""


def _interrupt(thread: threading.Thread) -> None:
    for _ in range(50):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_OutOfTime)
        )
        thread.join(0.02)
        if not thread.is_alive():
            return


class _Turns:
    """As much of an event loop as a draining execution needs of its worker's."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def call_soon(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """Put a callback into the line."""
        self._ready.append((callback, args))

    def run(self) -> None:
        """Run what is in the line, until nothing is."""
        while self._ready:
            callback, args = self._ready.popleft()
            callback(*args)


class _Host:
    """A worker that drains, and that writes nothing. See execution.Host."""

    draining = True
    hold = 0.0
    max_payload = 1 << 30

    def __init__(self, turns: _Turns, now: float, registry: Registry) -> None:
        self.real_loop = turns
        self.registry = registry
        self.ended: tuple[Any, ...] | None = None
        self._now = now

    def now(self) -> float:
        return self._now

    def woke(self, execution: Execution) -> None:
        self.real_loop.call_soon(execution.advance)

    def append(self, execution: Execution, entry: Entry, *_: Any) -> None:
        execution.committed(entry)

    def show(self, *_: Any) -> None:
        """Nobody looks."""

    def finish(self, execution: Execution, *result: Any) -> None:
        self.ended = result

    def park(self, *_: Any) -> None:
        """A draining execution gives its claim back instead."""

    def release(self, *_: Any) -> None:
        """There is no claim."""


class _Rehearsal:
    def __init__(self, workflow: Workflow[Any, Any], journal: Journal, registry: Registry) -> None:
        self._workflow, self._journal = workflow, journal
        self._turns = _Turns()
        last = max((e.at for e in journal.entries), default=journal.started_at)
        self._host = _Host(self._turns, last, registry)
        self._error: BaseException | None = None
        self._execution: _Watched | None = None

    def run(self) -> None:
        """Replay; in a thread of its own."""
        try:
            execution = _Watched(cast("Any", self._host), self._workflow, _claimed(self._journal))
            try:
                execution.wake()
                self._turns.run()
                execution.look()
            finally:
                execution.seal()
            self._execution = execution
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is no verdict on the journal
            self._error = error

    def answer(self, verdict: Verdict, reason: str, **parting: str | None) -> Replayed:
        """Return an answer about the run."""
        journal = self._journal
        return Replayed(
            journal.run_id, journal.workflow, journal.version, verdict, reason, **parting
        )

    def verdict(self) -> Replayed:
        """Return what the replay showed."""
        watched, error = self._execution, self._error
        if watched is None:
            return self.answer("unsure", f"the replay broke: {type(error).__name__}: {error}")
        if watched.fault is not None:
            return self._fault(watched.fault, watched.end)
        status, output, failure = _result(self._host.ended)
        failure = failure or watched.failure
        if watched.unasked is not None:
            return self._parts(watched.unasked, None, watched.end)
        if watched.other is not None:
            return self._parts(*watched.other)
        return self._frontier(status, output, failure, watched.waiting_for)

    def _fault(self, fault: BaseException, end: str) -> Replayed:
        if isinstance(fault, NonDeterminismError):
            entry = next((e for e in self._journal.entries if e.key == fault.key), None)
            if entry is not None:
                return self._parts(entry, fault.requested, end)
        if isinstance(fault, PayloadError):
            return self.answer("diverges", str(fault), key="input", recorded=self._journal.input)
        return self.answer("unsure", f"{type(fault).__name__}: {fault}")

    def _parts(self, entry: Entry, requested: str | None, end: str = "") -> Replayed:
        asks = f"asks for {requested}" if requested else f"{end}doesn't ask for it"
        reason = f"the journal holds {entry.label} at {entry.key}, the code {asks}"
        return self.answer(
            "diverges", reason, key=entry.key, recorded=entry.label, requested=requested
        )

    def _frontier(
        self, status: str | None, output: str | None, failure: str, waiting_for: str
    ) -> Replayed:
        """Judge a replay that used the whole journal up."""
        recorded = self._journal.status
        if recorded not in _ENDED:
            if status == "failed" or failure:
                return self.answer("unsure", f"after the whole journal the body raises{failure}")
            stands = f"ends: {status}" if status else f"waits for {waiting_for or 'nothing'}"
            return self.answer("fits", f"after the whole journal it {stands}")
        if status is None:
            now = f"the code waits for {waiting_for or 'something'}"
            return self._ends_otherwise(recorded, now, waiting_for)
        if status != recorded or (recorded == "succeeded" and output != self._journal.output):
            shown = f"{status} {output or ''}{failure}".strip()
            return self._ends_otherwise(recorded, f"the code ends as {shown:.200}", shown)
        return self.answer("fits", f"it ends as recorded: {status}")

    def _ends_otherwise(self, recorded: str, now: str, requested: str) -> Replayed:
        was = f"{recorded} {self._journal.output or ''}".strip()
        reason = f"the run ended as {was:.200}, {now}"
        return self.answer("diverges", reason, key="end", recorded=was, requested=requested)


class _Watched(Execution):
    """An execution that can be asked how far it came."""

    fault: BaseException | None = None
    unasked: Entry | None = None
    end: str = ""
    failure: str = ""
    other: tuple[Entry, str] | None = None

    def __init__(self, host: Any, workflow: Workflow[Any, Any], claimed: Claimed) -> None:
        super().__init__(host, workflow, claimed)
        self._recorded = claimed.entries

    def look(self) -> None:
        """Take down what sealing would change."""
        self.fault = self._fault
        if self._outcome is not None and self._outcome.status == "failed":
            self.failure = _result((self._outcome,))[2]  # compensations may follow
        if self._main is not None and self._main.done() and not self._main.cancelled():
            error = self._main.exception()
            how = "succeeded" if error is None else f"{type(error).__name__}: {error}"
            self.end = f"ends ({how}) and "
        completions = [e for e in self._recorded if e.kind not in _NOTES]
        self.unasked = next((e for e in completions if not e.requested), None)
        for entry in self._recorded:
            call = self._open.get(entry.key.partition("#")[0])
            asked = call is not None and (call.kind, call.name) == ("step", entry.name)
            if entry.kind == ATTEMPT and call is not None and not asked and self.other is None:
                self.other = (entry, call.label)


def _claimed(journal: Journal) -> Claimed:
    return Claimed(
        run_id=journal.run_id,
        workflow=journal.workflow,
        version=journal.version,
        queue="default",  # which children would inherit: no part of the journal
        claim=1,
        signal_seq=0,
        input=journal.input,
        started_at=journal.started_at,
        parent_id=None,
        parent_key=None,
        metadata="{}",
        entries=[replace(e, requested=False) for e in journal.entries],
        generation=journal.generation,
        seed=journal.origin or str(journal.run_id),
    )


def _result(ended: tuple[Any, ...] | None) -> tuple[str | None, str | None, str]:
    """Return status, output and error in words of how an execution ended."""
    if not ended:
        return None, None, ""
    first = ended[0]
    status, output, error = (
        ended if isinstance(first, str) else (first.status, first.output, first.error)
    )
    if error is None:
        return status, output, ""
    record = json.loads(error)
    return status, output, f": {record.get('type', '')}: {record.get('message', '')}"
