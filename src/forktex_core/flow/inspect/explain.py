# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Why a run doesn't move: from facts to findings, each with its mend. Pure.

The findings stand in the order in which they hold the run up: what must be mended first is first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from forktex_core.flow.inspect.facts import Facts
from forktex_core.flow.inspect.rows import plain_id
from forktex_core.flow.inspect.timeline import moment

type FindingCode = Literal[
    "ended", "halted", "paused", "executing", "worker_silent", "lock_held", "not_due",
    "no_worker", "version_not_served", "queue_not_served", "queue_paused", "queue_limit",
    "key_limit", "rate_limit", "workers_full", "about_to_start", "waiting_for_signal",
    "unexpected_signals", "waiting_for_child", "sleeping", "retry_due", "waiting_for_run",
    "waiting", "deadline", "no_leader", "clock",
]  # fmt: skip

_SILENT = timedelta(seconds=5)
_SKEW = timedelta(seconds=1)
_AT_WORK = ("pending", "running", "waiting")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that has to do with why a run doesn't move.

    Attributes:
        code: what it is, for programs; see FindingCode.
        sentence: what it is, for people.
        mend: what to do about it; empty when nothing is wrong.
        details: the values that the sentence names.
    """

    code: FindingCode
    sentence: str
    mend: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sentence}: {self.mend}" if self.mend else self.sentence


def explain(facts: Facts) -> list[Finding]:
    """Return the findings about a run, the decisive one first."""
    run = facts.run
    if run.finished_at is not None:
        return [_ended(facts)]
    found: list[Finding] = [*_lock(facts)]
    if run.status == "paused":
        found.append(_paused(facts))
    elif run.status == "running":
        found.extend(_running(facts))
    elif run.due_at is not None and run.due_at <= facts.now:
        found.extend(_due(facts))
    elif run.status == "pending" or run.started_at is None:
        found.extend(_not_begun(facts))
    else:
        found.extend(_waiting(facts))
    if run.status in ("pending", "waiting") and not any(f.code in _UNSERVED for f in found):
        found.extend(_unserved(facts))
    return [*found, *_surroundings(facts)]


_UNSERVED = frozenset({"no_worker", "version_not_served", "queue_not_served"})


def _ended(facts: Facts) -> Finding:
    run = facts.run
    why = f": {run.error}" if run.error is not None else ""
    mend = {
        "succeeded": "fork() makes a new run of a part of it",
        "failed": "retry() lets it go on from the failed step, fork() makes a new run of it",
        "cancelled": "retry() lets it go on, fork() makes a new run of it",
    }[run.status]
    sentence = f"it has {run.status} at {moment(run.finished_at)}{why}"
    return Finding("ended", sentence, mend, {"status": run.status, "at": run.finished_at})


def _paused(facts: Facts) -> Finding:
    run = facts.run
    if run.halted:
        return Finding(
            "halted", f"it was halted: {run.error}",
            "mend what the error names (run the code that began it, or register the new body under "
            "another version and fork() onto it), then resume() it", {"error": str(run.error)},
        )  # fmt: skip
    by = f" by {run.paused_by}" if run.paused_by else ""
    at = "" if run.paused_at is None else f" at {moment(run.paused_at)}"
    return Finding(
        "paused", f"it was paused{by}{at}", "resume() lets it go on",
        {"by": run.paused_by, "at": run.paused_at},
    )  # fmt: skip


def _lock(facts: Facts) -> Iterator[Finding]:
    row = facts.row
    if row["lock_pid"] is None:
        return
    since = "" if row["lock_since"] is None else f" since {moment(row['lock_since'])}"
    what = row["lock_application"] or "a program without a name"
    yield Finding(
        "lock_held",
        f"its row is locked by the database session with pid {row['lock_pid']} ({what}, "
        f"{row['lock_state'] or 'unknown state'}){since}",
        "let that transaction end; if its program hangs, SELECT pg_terminate_backend"
        f"({row['lock_pid']}) ends it",
        {"pid": row["lock_pid"], "since": row["lock_since"], "query": row["lock_query"]},
    )


def _running(facts: Facts) -> Iterator[Finding]:
    run, row = facts.run, facts.row
    who = f"worker {run.worker_id} ({row['worker']}, {row['worker_host']}:{row['worker_pid']})"
    beat = row["worker_heartbeat_at"]
    details = {"worker": run.worker_id, "pid": row["worker_pid"], "host": row["worker_host"]}
    if beat is not None and facts.now - beat > _SILENT:
        yield Finding(
            "worker_silent",
            f"{who} holds it, and has not been heard of since {moment(beat)}",
            "the leader hands its runs on when its connection is gone or its lease is over; if the "
            "process hangs, end it", {**details, "heartbeat_at": beat},
        )  # fmt: skip
    moved = row["moved_at"] or run.started_at
    yield Finding(
        "executing",
        f"{who} has been executing it since {moment(run.claimed_at)}; the last that it recorded "
        f"was at {moment(moved)}",
        "", {**details, "since": run.claimed_at, "recorded_at": moved},
    )  # fmt: skip
    yield from _retries(facts)


# Runs that could be claimed


def _due(facts: Facts) -> Iterator[Finding]:
    found = [*_unserved(facts), *_limits(facts), *_full(facts)]
    yield from found
    if not found:
        due = facts.run.due_at
        yield Finding(
            "about_to_start",
            f"it is due since {moment(due)}, and a worker with room serves it: it is about to be "
            "claimed",
            "if it stays like this, look at that worker's log", {"since": due},
        )  # fmt: skip


def _unserved(facts: Facts) -> Iterator[Finding]:
    run = facts.run
    lane, queue = run.lane, run.queue
    details = {"workflow": run.workflow, "version": run.version, "queue": queue}
    if any(lane in server["lanes"] for server in facts.servers):
        return
    if facts.lane_servers:
        elsewhere = sorted({q for server in facts.lane_servers for q in server["queues"]})
        yield Finding(
            "queue_not_served",
            f"workers serve {lane}, but none of them serves queue {queue!r}: they serve "
            f"{', '.join(elsewhere)}",
            f"start one for it: forktex-flow worker … --queue {queue}",
            {**details, "queues": elsewhere},
        )
    elif facts.servers:
        lanes = {other for server in facts.servers for other in server["lanes"]}
        versions = sorted(n for n in lanes if n.rpartition("@")[0] == run.workflow)
        others = f"; they serve {', '.join(versions)} of it" if versions else ""
        yield Finding(
            "version_not_served",
            f"no living worker serves version {run.version} of {run.workflow}, though "
            f"{len(facts.servers)} serve queue {queue!r}{others}",
            f"start a worker whose code registers version={run.version}, or fork() the run onto a "
            "version that is served", {**details, "served": versions},
        )  # fmt: skip
    else:
        yield Finding(
            "no_worker", f"no living worker serves queue {queue!r}",
            f"start one: forktex-flow worker package.module:flow --queue {queue}", details,
        )  # fmt: skip


def _limits(facts: Facts) -> Iterator[Finding]:
    run, row = facts.run, facts.row
    if row["queue_paused"]:
        yield Finding(
            "queue_paused", f"queue {run.queue!r} is paused",
            f"resume_queue({run.queue!r}) lets its runs be claimed", {"queue": run.queue},
        )  # fmt: skip
    limit = row["concurrency"]
    if limit is not None and row["queue_running"] >= limit:
        names = _named(facts.queue_holders)
        yield Finding(
            "queue_limit",
            f"queue {run.queue!r} executes {limit} at a time, which are taken by {names}",
            f"wait for them, or raise the limit with queue({run.queue!r}, concurrency=…)",
            {"limit": limit, "runs": _ids(facts.queue_holders)},
        )
    limit = row["per_key"]
    if limit is not None and run.key is not None and row["key_running"] >= limit:
        yield Finding(
            "key_limit",
            f"key {run.key!r} of queue {run.queue!r} may have {limit} executed at a time, which "
            f"are taken by {_named(facts.key_holders)}",
            f"wait for them, or raise the limit with queue({run.queue!r}, per_key=…)",
            {"limit": limit, "key": run.key, "runs": _ids(facts.key_holders)},
        )
    yield from _rate(facts)


def _rate(facts: Facts) -> Iterator[Finding]:
    run, row = facts.run, facts.row
    if row["rate"] is None or run.claim > 0:
        return
    window = [at for at in row["starts"] if at > facts.now - row["rate_period"]]
    if len(window) >= row["rate"]:
        again = min(window) + row["rate_period"]
        yield Finding(
            "rate_limit",
            f"queue {run.queue!r} begins {row['rate']} runs in "
            f"{row['rate_period'].total_seconds():g} s, and has: the next may begin at "
            f"{moment(again)}",
            f"wait, or raise the rate with queue({run.queue!r}, rate=…)",
            {"rate": row["rate"], "next_at": again},
        )


def _named(holders: list[Any]) -> str:
    names = " and ".join(f"run {plain_id(row['id'])}" for row in holders[:2])
    return f"{names} and others" if len(holders) > 2 else names or "runs that just ended"


def _ids(holders: list[Any]) -> list[Any]:
    return [plain_id(row["id"]) for row in holders]


def _full(facts: Facts) -> Iterator[Finding]:
    serving = [s for s in facts.servers if facts.run.lane in s["lanes"]]
    if serving and all(s["running"] >= s["slots"] for s in serving):
        slots = sum(s["slots"] for s in serving)
        yield Finding(
            "workers_full",
            f"all {len(serving)} workers that serve it execute as many runs as they may "
            f"({slots} together)",
            "start more workers, or raise their concurrency",
            {"workers": [s["id"] for s in serving], "slots": slots},
        )


# Runs that wait


def _not_begun(facts: Facts) -> Iterator[Finding]:
    run = facts.run
    before = facts.row["run_before"]
    if run.due_at is None and before is not None:
        yield Finding(
            "waiting_for_run",
            f"it waits until run {plain_id(before)} of schedule {run.schedule!r} has ended",
            "cancel that run, or give the schedule another overlap",
            {"run": plain_id(before), "schedule": run.schedule},
        )
    else:
        yield Finding(
            "not_due", f"it is not due before {moment(run.due_at)}", "", {"due_at": run.due_at}
        )


def _waiting(facts: Facts) -> Iterator[Finding]:
    run = facts.run
    since = facts.row["moved_at"] or run.started_at
    retries = list(_retries(facts))
    yield from retries
    children = {c["workflow"]: c for c in reversed(facts.children)}
    names = []
    for kind, name in facts.waits:
        child = children.get(name.removeprefix("end of ")) if name.startswith("end of ") else None
        if kind == "signal" and child is not None:
            yield _child(child, since)
        elif kind == "signal":
            names.extend(name.split("|"))
            yield _signal(name, since)
    if names and facts.untaken and not set(names) & set(facts.untaken):
        got = sorted(set(facts.untaken))
        yield Finding(
            "unexpected_signals",
            f"its inbox holds signals that nobody waits for: {', '.join(map(repr, got))}",
            "compare the names: a signal is only taken by a wait of the same name",
            {"names": got},
        )
    if run.due_at is not None and not retries:
        yield Finding(
            "sleeping", f"it sleeps until {moment(run.due_at)}"
            if not names else f"it waits until {moment(run.due_at)} at the latest",
            "", {"until": run.due_at},
        )  # fmt: skip
    if run.due_at is None and not facts.waits:
        yield Finding(
            "waiting", f"it waits since {moment(since)} for {run.waiting_for or 'an event'}",
            "send what it waits for, or cancel() it", {"since": since},
        )  # fmt: skip


def _signal(name: str, since: datetime | None) -> Finding:
    either = " or ".join(repr(part) for part in name.split("|"))
    return Finding(
        "waiting_for_signal", f"it waits for signal {either} since {moment(since)}",
        f"send it: send_signal(run_id, {name.split('|', maxsplit=1)[0]!r}, …)",
        {"signals": name.split("|"), "since": since},
    )  # fmt: skip


def _child(child: Any, since: datetime | None) -> Finding:
    run_id = plain_id(child["id"])
    return Finding(
        "waiting_for_child",
        f"it waits for its child {run_id} ({child['workflow']}, {child['status']}) since "
        f"{moment(since)}",
        f"see why that one does not end: explain({str(run_id)!r})",
        {"run": run_id, "status": child["status"], "since": since},
    )


def _retries(facts: Facts) -> Iterator[Finding]:
    for retry in facts.retries:
        yield Finding(
            "retry_due",
            f"step {retry.step!r} failed in attempt {retry.attempt} ({retry.error}); the next "
            f"attempt is due at {moment(retry.retry_at)}",
            "mend what the error names; the step is tried again by itself",
            {"step": retry.step, "attempt": retry.attempt, "at": retry.retry_at},
        )


# What surrounds it


def _surroundings(facts: Facts) -> Iterator[Finding]:
    run, row = facts.run, facts.row
    if run.deadline_at is not None:
        over = run.deadline_at <= facts.now
        yield Finding(
            "deadline",
            f"its timeout {'was over' if over else 'is over'} at {moment(run.deadline_at)}: "
            "then it is made to fail",
            "the leader does that: see whether there is one" if over else "",
            {"at": run.deadline_at},
        )
    seen = row["leader_seen_at"]
    if row["leader"] is None or seen is None or facts.now - seen > _SILENT:
        since = "" if seen is None else f" since {moment(seen)}"
        yield Finding(
            "no_leader",
            f"no worker does the leader's chores{since}: timeouts, schedules and the runs of dead "
            "workers stand still",
            "start a worker that may lead (lead=True, the default)", {"seen_at": seen},
        )  # fmt: skip
    skew = facts.here - facts.now
    if abs(skew) > _SKEW:
        yield Finding(
            "clock",
            f"this machine's clock is {abs(skew).total_seconds():.1f} s "
            f"{'ahead of' if skew > timedelta(0) else 'behind'} the database's, which decides",
            "let both keep time by NTP", {"seconds": skew.total_seconds()},
        )  # fmt: skip
