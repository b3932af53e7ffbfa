# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What has happened so far in the demo, as events in time; pure: it is told, it never looks."""

import time
from collections import Counter
from dataclasses import dataclass, field

from examples.deploy.state import Record, State
from examples.deploy.witness import Testimony

TICK = 1e-6  # seconds: less than anything lasts


@dataclass(frozen=True)
class Event:
    """One thing that happened: when, by or to whom, what."""

    at: float
    who: str
    what: str
    style: str = ""


@dataclass
class Story:
    """All of it."""

    title: str = ""
    steps: tuple[str, ...] = ()
    began: float = field(default_factory=time.time)
    events: list[Event] = field(default_factory=list)
    state: State = field(default_factory=State)
    testimonies: list[Testimony] = field(default_factory=list)
    killed: str | None = None
    killed_at: float = 0.0
    starts: int = 0
    """Application processes that were started."""

    def tell(self, who: str, what: str, style: str = "", at: float | None = None) -> None:
        """Add an event; now, if no time is given."""
        self.events.append(Event(time.time() if at is None else at, who, what, style))

    def update(self, state: State, testimonies: list[Testimony]) -> None:
        """Take in a new look at the database and at the witnesses: what is new becomes events."""
        old, self.state = self.state, state
        known, told = len(self.testimonies), len(self.events)
        self.testimonies = testimonies
        self.tell_workers(old, state)
        for testimony in testimonies[known:]:
            self.tell(self.name_of(testimony.pid), self.begins(testimony), "cyan", testimony.at)
        for record in state.records[len(old.records) :]:
            at = recorded_at(record, testimonies)
            self.tell(record.worker, f"step {record.name} recorded", "green", at)
        self.events[told:] = sorted(self.events[told:], key=lambda event: event.at)

    def tell_workers(self, old: State, new: State) -> None:
        """Who came, who was found dead, who leads."""
        before = {worker.id: worker for worker in old.workers}
        for worker in new.workers:
            was = before.get(worker.id)
            if was is None:
                at = worker.started_at.timestamp()
                self.tell(worker.name, f"is at work (process {worker.pid})", at=at)
            elif was.ended_at is None and worker.ended_at is not None:
                what = f"is known to be gone ({worker.end_reason}), its runs are free"
                self.tell(worker.name, what, "yellow", worker.ended_at.timestamp())
            if worker.elected_at is not None and (was is None or was.elected_at is None):
                self.tell(worker.name, "leads", "magenta", worker.elected_at.timestamp())

    def begins(self, testimony: Testimony) -> str:
        """How to put that a step's body begins."""
        again = any(t.step == testimony.step and t.at < testimony.at for t in self.testimonies)
        takes_over = testimony == self.taker()
        prefix, suffix = "takes over: " if takes_over else "", " again" if again else ""
        return f"{prefix}step {testimony.step}{suffix}"

    def name_of(self, pid: int) -> str:
        """A worker's name by its process."""
        return next((w.name for w in self.state.workers if w.pid == pid), f"process {pid}")

    def taker(self) -> Testimony | None:
        """The first step of another worker after the kill."""
        for testimony in self.testimonies:
            later = self.killed is not None and testimony.at > self.killed_at
            if later and self.name_of(testimony.pid) != self.killed:
                return testimony
        return None

    def takeover(self) -> float | None:
        """Seconds from the kill to the next worker's first step."""
        taker = self.taker()
        return None if taker is None else taker.at - self.killed_at

    def objections(self) -> list[str]:
        """Which of the demo's promises were not kept."""
        recorded = Counter(record.name for record in self.state.records)
        executed = Counter(testimony.step for testimony in self.testimonies)
        finished = {r.name for r in self.state.records if r.at.timestamp() <= self.killed_at}
        wrong = [
            f"step {step} was recorded {recorded[step]} times"
            for step in self.steps
            if recorded[step] != 1
        ]
        wrong += [
            f"step {step} was finished before the kill, and executed {executed[step]} times"
            for step in self.steps
            if step in finished and executed[step] != 1
        ]
        if self.takeover() is None:
            wrong.append("no other worker took over")
        if self.starts != 1:
            wrong.append(f"{self.starts} application processes were started")
        return wrong


def recorded_at(record: Record, testimonies: list[Testimony]) -> float:
    """When the step was recorded: after its body began, before the next one's did.

    The journal's time is the worker's estimate of the database's clock, a few milliseconds off on a
    busy machine; the steps of this workflow come one after another, and so should their lines."""
    at = record.at.timestamp()
    began = max((t.at for t in testimonies if t.step == record.name), default=at)
    after = min((t.at for t in testimonies if t.at > began), default=at + 1)
    return min(max(at, began + TICK), after - TICK)
