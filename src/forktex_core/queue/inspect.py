# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Read-only views of a queue, and what an operator does about dead letters."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from forktex_core.queue import scripts
from forktex_core.queue.cron import Cron
from forktex_core.queue.errors import ConfigurationError
from forktex_core.queue.handle import Access
from forktex_core.queue.message import ATTEMPT, CRASHES, Message

type Purgeable = Literal["ready", "parked", "dead"]

PURGEABLE = ("ready", "parked", "dead")
LETTER = re.compile(r"\d+-\d+")

LANES = ("returned", "suspect", "high", "normal", "low")
STEP = 500  # jobs that one call of a bulk operation touches


@dataclass(frozen=True, slots=True)
class Lane:
    """One stream: jobs ``waiting``, jobs ``held`` by workers, ``age`` in seconds of the oldest
    waiting one (None: none)."""

    waiting: int
    held: int
    age: float | None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker: ``holding`` jobs; not ``alive``: its jobs are about to be taken back."""

    name: str
    alive: bool
    holding: int
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stats:
    """A queue at one moment. ``delayed`` jobs wait for a time, ``limited`` ones for a free slot of
    a limit.

    ``counters``: job name -> event -> number, since the queue exists; events are enqueued,
    succeeded, failed, retried,
    redelivered, cancelled, expired, requeued."""

    queue: str
    time: datetime
    paused: bool
    delayed: int
    limited: int
    dead: int
    lanes: dict[str, Lane]
    counters: dict[str, dict[str, int]]
    workers: list[WorkerInfo]

    @property
    def waiting(self) -> int:
        """Jobs that a worker could take now."""
        return sum(lane.waiting for lane in self.lanes.values())

    @property
    def held(self) -> int:
        """Jobs that workers hold."""
        return sum(lane.held for lane in self.lanes.values())


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that is given up. ``letter`` names it for `Queue.requeue`; ``reason`` is "failed"
    or "crashed"."""

    letter: str
    job_id: str
    name: str
    arguments: Any
    reason: str
    failure: str
    attempts: int
    crashes: int
    died_at: datetime


async def stats(access: Access, queue: str) -> Stats:
    """Everything that can be counted, as one snapshot."""
    picture = await access.wire.insist(scripts.call("inspect", access.root))
    time, paused, outside, delayed, dead, *rest = picture
    numbers, (counters, workers, holding) = rest[:-3], rest[-3:]
    held = {holding[i].decode(): holding[i + 1] for i in range(0, len(holding), 2)}
    lanes = {
        name: Lane(numbers[3 * i], numbers[3 * i + 1], age_of(numbers[3 * i + 2]))
        for i, name in enumerate(LANES)
    }
    return Stats(
        queue,
        moment(time),
        bool(paused),
        delayed,
        outside - delayed,
        dead,
        lanes,
        counted(counters),
        [worker_of(workers[i : i + 3], held) for i in range(0, len(workers), 3)],
    )


def worker_of(row: Sequence[Any], held: dict[str, int]) -> WorkerInfo:
    """A worker from its row in the picture."""
    name = row[0].decode()
    return WorkerInfo(name, bool(row[2]), held.get(name, 0), json.loads(row[1]))


def counted(flat: Sequence[bytes]) -> dict[str, dict[str, int]]:
    """Counters by job and event."""
    counters: dict[str, dict[str, int]] = {}
    for i in range(0, len(flat), 2):
        event, _, name = flat[i].decode().partition(":")
        counters.setdefault(name, {})[event] = int(flat[i + 1])
    return counters


def moment(milliseconds: int) -> datetime:
    """A time of the server."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def age_of(milliseconds: int) -> float | None:
    """Seconds, or None for the absent."""
    return None if milliseconds < 0 else milliseconds / 1000


async def overview(access: Access, queue: str, crons: Sequence[Cron], limit: int) -> dict[str, Any]:
    """Numbers, the newest dead letters and schedules as JSON values."""
    found = await stats(access, queue)
    letters = await failures(access, limit, None)
    schedules = [
        {
            "job": cron.call.definition.name,
            "cron": cron.expression,
            "timezone": cron.timezone,
            "next": cron.after(found.time),
        }
        for cron in crons
    ]
    values = asdict(found) | {"waiting": found.waiting, "held": found.held}
    values |= {"failures": [asdict(letter) for letter in letters], "schedules": schedules}
    plain: dict[str, Any] = json.loads(as_json(values))
    return plain


def as_json(value: Any) -> str:
    """JSON text of a view; times are ISO 8601."""
    return json.dumps(value, default=lambda one: one.isoformat())


def check_letter(letter: str) -> str:
    """The id of a dead letter. Raises ConfigurationError."""
    if not LETTER.fullmatch(letter):
        raise ConfigurationError(f"{letter!r} is no dead letter's id: take one from failures()")
    return letter


async def failures(access: Access, limit: int, before: str | None) -> list[DeadLetter]:
    """Dead letters, newest first."""
    if limit < 1:
        raise ConfigurationError(f"limit={limit}: ask for 1 dead letter or more")
    if before is not None:
        check_letter(before)
    end = f"({before}" if before else "+"
    command = ("XREVRANGE", f"{access.root}:dead", end, "-", "COUNT", limit)
    return [letter_of(*entry) for entry in await access.wire.insist(command)]


def letter_of(letter: bytes, fields: Sequence[bytes]) -> DeadLetter:
    """A dead letter from its entry."""
    stored = {fields[i]: fields[i + 1] for i in range(0, len(fields), 2)}
    message = Message.read(stored[b"m"])
    return DeadLetter(
        letter.decode(),
        message.id,
        message.name,
        arguments_of(message),
        stored[b"s"].decode(),
        stored[b"e"].decode(),
        message.options.get(ATTEMPT, 0) + 1,
        message.options.get(CRASHES, 0),
        moment(int(letter.partition(b"-")[0])),
    )


def arguments_of(message: Message) -> Any:
    """The JSON of a job's arguments, or the text of what is none."""
    try:
        return json.loads(message.arguments)
    except ValueError:
        return message.arguments.decode(errors="backslashreplace")


async def requeue(access: Access, letters: Sequence[str] | None) -> int:
    """Put dead letters back, all that are there now or the given ones."""
    moved = 0
    if letters is not None:
        for at in range(0, len(letters), STEP):
            chunk = [check_letter(letter) for letter in letters[at : at + STEP]]
            moved += await access.wire.insist(scripts.call("requeue", access.root, *chunk))
        return moved
    dead = f"{access.root}:dead"
    newest = await access.wire.insist(("XREVRANGE", dead, "+", "-", "COUNT", 1))
    last = newest[0][0] if newest else b"0-0"
    while found := await access.wire.insist(("XRANGE", dead, "-", last, "COUNT", STEP)):
        ids = [entry[0] for entry in found]
        moved += await access.wire.insist(scripts.call("requeue", access.root, *ids))
    return moved


async def purge(access: Access, what: Purgeable) -> int:
    """Drop jobs until none is left."""
    if what not in PURGEABLE:
        raise ConfigurationError(f"can't purge {what!r}, only {', '.join(PURGEABLE)}")
    gone = 0
    while step := await access.wire.insist(scripts.call("purge", access.root, what, STEP)):
        gone += step
    return gone


def metrics(stats: Stats) -> str:
    """The numbers in Prometheus' text format, for a ``/metrics`` page. Raises ConfigurationError
    for what is no `Stats`."""
    if not isinstance(stats, Stats):
        raise ConfigurationError(
            f"metrics() takes Stats, not {type(stats).__name__}: give it `await queue.stats()`"
        )
    queue = f'queue="{escape(stats.queue)}"'
    lines = [
        "# HELP forktex_queue_jobs Jobs by what they wait for.",
        "# TYPE forktex_queue_jobs gauge",
        f'forktex_queue_jobs{{{queue},state="waiting"}} {stats.waiting}',
        f'forktex_queue_jobs{{{queue},state="held"}} {stats.held}',
        f'forktex_queue_jobs{{{queue},state="delayed"}} {stats.delayed}',
        f'forktex_queue_jobs{{{queue},state="limited"}} {stats.limited}',
        f'forktex_queue_jobs{{{queue},state="dead"}} {stats.dead}',
        "# HELP forktex_queue_oldest_seconds Age of the oldest job that could be taken.",
        "# TYPE forktex_queue_oldest_seconds gauge",
    ]
    lines += [
        f'forktex_queue_oldest_seconds{{{queue},lane="{name}"}} {lane.age or 0}'
        for name, lane in stats.lanes.items()
    ]
    lines += ["# HELP forktex_queue_workers Workers that give signs of life."]
    lines += ["# TYPE forktex_queue_workers gauge"]
    lines += [f"forktex_queue_workers{{{queue}}} {sum(w.alive for w in stats.workers)}"]
    lines += [
        "# HELP forktex_queue_paused 1 while the queue is paused.",
        "# TYPE forktex_queue_paused gauge",
        f"forktex_queue_paused{{{queue}}} {stats.paused:d}",
    ]
    lines += ["# HELP forktex_queue_events_total What happened to jobs, since the queue exists."]
    lines += ["# TYPE forktex_queue_events_total counter"]
    lines += [
        f'forktex_queue_events_total{{{queue},job="{escape(job)}",event="{event}"}} {number}'
        for job, events in sorted(stats.counters.items())
        for event, number in sorted(events.items())
    ]
    return "\n".join(lines) + "\n"


def escape(value: str) -> str:
    """A label value as the text format wants it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
