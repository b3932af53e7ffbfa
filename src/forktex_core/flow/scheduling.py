# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Schedules: runs that start by the clock."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from forktex_core.flow.client import Client, Target, check_start
from forktex_core.flow.errors import UnknownScheduleError
from forktex_core.flow.gate import guarded
from forktex_core.flow.identity import new_run_id
from forktex_core.flow.plan import Plan, delayed, scheduled_run_id
from forktex_core.flow.retry import positive, seconds, span
from forktex_core.flow.workflow import Workflow, check_name

type Overlap = Literal["skip", "queue", "allow", "cancel_running"]

_OVERLAPS = ("skip", "queue", "allow", "cancel_running")
_MOST_BACKFILLED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it stands in the database. Durations are seconds; see schedule().

    Args:
        next_at: the next time at which it fires, None when there is none any more.
        last_at: the last time at which it fired.
        last_run: the run of that time.
        skipped: how many times passed without a run: they were missed, or overlapped.
    """

    name: str
    workflow: str
    version: int | None
    cron: tuple[str, ...]
    every: float | None
    at: tuple[datetime, ...]
    timezone: str
    overlap: str
    catch_up: float
    jitter: float
    input: Any
    queue: str
    priority: int
    key: str | None
    timeout: float | None
    metadata: dict[str, Any]
    paused: bool
    next_at: datetime | None
    last_at: datetime | None
    last_run: UUID | None
    skipped: int


class Scheduling(Client):
    """The part of Flow that keeps schedules."""

    @guarded("schedule.change")
    async def schedule(
        self,
        name: str,
        workflow: str | Workflow[Any, Any],
        *,
        cron: str | Iterable[str] | None = None,
        every: float | timedelta | None = None,
        at: datetime | Iterable[datetime] | None = None,
        timezone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: float | timedelta = 60,
        jitter: float | timedelta = 0,
        input: Any = None,
        version: int | None = None,
        queue: str = "default",
        priority: int = 0,
        key: str | None = None,
        timeout: float | timedelta | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Schedule:
        """Make a schedule, or change the one of this name: calling it again at every start of a
        service is fine. It fires on one of the workers, the leader, once for each time.

        Args:
            name: the schedule's name.
            workflow: what it starts.
            cron: one or several expressions of five fields (six with seconds), in ``timezone``. A
                time that summer time skips fires right after the gap, one that it repeats once.
            every: instead, seconds (or a timedelta) between times, counted from the epoch.
            at: instead, one or several moments with a time zone.
            timezone: an IANA name.
            overlap: what happens when a run of the schedule has not ended: ``skip`` the new one,
                ``queue`` it until then, ``allow`` both, ``cancel_running`` the old one.
            catch_up: seconds (or a timedelta) by which a time may be missed, when no worker was
                there, and still fire; ten at least.
            jitter: seconds (or a timedelta) over which runs are spread after their times.
            input, version, queue, priority, key, timeout, metadata: as start() takes them.

        Raises:
            UnknownWorkflowError: no such workflow or version.
            ValueError: the plan is none, or an option is out of its range.
            PayloadError: the input doesn't fit.
        """
        check_name(name, "schedule")
        plan = _plan(cron, every, at, timezone)
        target = await self._target(workflow, version)
        check_start(queue, priority)
        if overlap not in _OVERLAPS:
            raise ValueError(f"overlap must be one of {', '.join(_OVERLAPS)}, not {overlap!r}")
        late, spread = span(catch_up, "catch_up"), span(jitter, "jitter")
        await self._check_key(queue, key)
        columns, text = await self._draft(target, queue, priority, metadata)
        await self._put(
            name, target, plan, overlap, timedelta(seconds=late), timedelta(seconds=spread),
            self._encode_input(target, input), version, queue, priority, self._own_key(key),
            None if timeout is None else timedelta(seconds=positive(timeout, "timeout")), text,
            columns,
        )  # fmt: skip
        return self._schedule(await self._row_of(name))

    async def _put(  # noqa: PLR0917 - the columns of the table
        self, name: str, target: Target, plan: Plan, overlap: str, catch_up: timedelta,
        jitter: timedelta, input: str, version: int | None, queue: str, priority: int,
        key: str | None, timeout: timedelta | None, metadata: str, columns: dict[str, Any],
    ) -> None:  # fmt: skip
        opened = self._open
        if target.workflow is not None:  # so that the leader knows it, whoever that is
            kind = target.workflow.kind
            await opened.store.register_definitions(
                [(target.name, target.version, target.lane, kind, None)]
            )
        now = await opened.store.database_time()
        await opened.schedules.put_schedule(
            self._own(name), target.name, version, plan.dump(), overlap, catch_up, jitter,
            opened.store.encode(input), queue, priority, key, timeout, metadata, plan.after(now),
            *opened.store.view.values(columns),
        )  # fmt: skip

    @guarded("schedule.read")
    async def schedules(self) -> list[Schedule]:
        """Return all schedules, by name."""
        return [self._schedule(row) for row in await self._open.schedules.schedules()]

    @guarded("schedule.read")
    async def get_schedule(self, name: str) -> Schedule:
        """Return a schedule; raise UnknownScheduleError when there is none of this name."""
        return self._schedule(await self._row_of(name))

    @guarded("schedule.change")
    async def update_schedule(self, name: str, **changes: Any) -> Schedule:
        """Change some of a schedule's arguments (see schedule()) and keep the others. Giving one of
        ``cron``, ``every`` and ``at`` replaces whichever it had.

        Raises:
            UnknownScheduleError: there is none of this name.
        """
        known = await self.get_schedule(name)
        plan: dict[str, Any] = {"cron": known.cron or None, "every": known.every}
        plan["at"] = known.at or None
        if not plan.keys().isdisjoint(changes):
            plan = {}
        kept = {
            part: getattr(known, part)
            for part in (
                "workflow", "timezone", "overlap", "catch_up", "jitter", "input", "version",
                "queue", "priority", "key", "timeout", "metadata",
            )
        }  # fmt: skip
        return await self.schedule(name, **{**kept, **plan, **changes})

    @guarded("schedule.change")
    async def pause_schedule(self, name: str) -> None:
        """Let a schedule fire no more until resume_schedule().

        Raises UnknownScheduleError when there is none of this name.
        """
        stored = self._own(name)
        if not await self._open.schedules.pause_schedule(stored, None, paused=True):
            raise UnknownScheduleError(name)

    @guarded("schedule.change")
    async def resume_schedule(self, name: str) -> None:
        """Let a paused schedule fire again, from its next time on; what was missed is not made up
        for (see backfill_schedule()).

        Raises UnknownScheduleError when there is none of this name.
        """
        row = await self._row_of(name)
        next_at = Plan.load(row["plan"]).after(row["now"])
        await self._open.schedules.pause_schedule(row["name"], next_at, paused=False)

    @guarded("schedule.change")
    async def delete_schedule(self, name: str) -> None:
        """Remove a schedule; its runs go on. Raises UnknownScheduleError when there is none."""
        if not await self._open.schedules.delete_schedule(self._own(name)):
            raise UnknownScheduleError(name)

    @guarded("schedule.trigger")
    async def trigger_schedule(self, name: str) -> UUID:
        """Start a run of a schedule now, whatever runs; return its id.

        Raises UnknownScheduleError when there is none of this name.
        """
        row = await self._row_of(name)
        run_id = new_run_id()
        await self._start_scheduled(row, run_id, row["now"], "allow")
        return run_id

    @guarded("schedule.trigger")
    async def backfill_schedule(
        self, name: str, start: datetime, end: datetime, *, overlap: Overlap = "allow"
    ) -> list[UUID]:
        """Start the runs of a schedule's times from ``start`` up to, not including, ``end``. Times
        that fired already do not again; return the ids of the runs that are new.

        Args:
            name: the schedule.
            start: the first moment, with a time zone.
            end: the moment after the last, with a time zone.
            overlap: ``queue`` to run them one after the other, if the schedule itself queues.

        Raises:
            UnknownScheduleError: there is none of this name.
            ValueError: a moment has no time zone, or there are more than 10,000 times.
        """
        row = await self._row_of(name)
        started = []
        for time in _times(Plan.load(row["plan"]), start, end):
            run_id = scheduled_run_id(row["name"], time)
            due = delayed(row["name"], time, row["jitter"])
            if await self._start_scheduled(row, run_id, due, overlap) in ("started", "queued"):
                started.append(run_id)
        return started

    async def _start_scheduled(self, row: Any, run_id: UUID, due: datetime, overlap: str) -> str:
        target = await self._target(row["workflow"], row["version"])
        outcome = await self._open.schedules.start_scheduled(
            row["name"], run_id, due, version=target.version, lane=target.lane, overlap=overlap
        )
        if outcome == "started":
            self._tell_of_work(row["queue"])
        return outcome

    async def _row_of(self, name: str) -> Any:
        rows = await self._open.schedules.schedules(self._own(name))
        if not rows:
            raise UnknownScheduleError(name)
        return rows[0]

    def _schedule(self, row: Any) -> Schedule:
        plan = Plan.load(row["plan"])
        text = self._open.store.decode(row["input"])
        return Schedule(
            name=self._shown(row["name"]), workflow=row["workflow"], version=row["version"],
            cron=plan.cron, every=plan.every, at=plan.at, timezone=plan.timezone,
            overlap=row["overlap"],
            catch_up=row["catch_up"].total_seconds(), jitter=row["jitter"].total_seconds(),
            input=None if text is None else json.loads(text), queue=row["queue"],
            priority=row["priority"], key=None if row["key"] is None else self._shown(row["key"]),
            timeout=None if row["timeout"] is None else row["timeout"].total_seconds(),
            metadata=json.loads(row["metadata"]), paused=row["paused"], next_at=row["next_at"],
            last_at=row["last_at"], last_run=row["last_run"], skipped=row["skipped"],
        )  # fmt: skip


def _plan(
    cron: str | Iterable[str] | None,
    every: float | timedelta | None,
    at: datetime | Iterable[datetime] | None,
    timezone: str,
) -> Plan:
    return Plan(
        cron=() if cron is None else (cron,) if isinstance(cron, str) else tuple(cron),
        every=None if every is None else seconds(every),
        at=() if at is None else (at,) if isinstance(at, datetime) else tuple(at),
        timezone=timezone,
    )


def _times(plan: Plan, start: datetime, end: datetime) -> list[datetime]:
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("a backfill needs moments with a time zone: datetime(..., tzinfo=UTC)")
    found: list[datetime] = []
    for time in plan.times(start.astimezone(UTC) - timedelta(microseconds=1)):
        if time >= end:
            break
        found.append(time)
        if len(found) > _MOST_BACKFILLED:
            raise ValueError(f"more than {_MOST_BACKFILLED} times: backfill them in parts")
    return found
