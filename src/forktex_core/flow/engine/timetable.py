# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The leader's chore that fires schedules.

Protocol. The leader's statement tells that a time has come, by the database's clock. The schedules
that are due are read with the database's time, what to do about each is decided by pure functions
(plan.py), and one statement for each schedule starts the runs and notes the next time, fenced by
the leader's term and the schedule's revision. A leader that was deposed in between, or a schedule
that was edited in between, changes nothing; and the ids of the runs are derived from the schedule
and the time, so that nothing fires a time twice.
"""

import logging
from collections.abc import Callable
from typing import Any

from forktex_core.flow.errors import DatabaseUnavailableError
from forktex_core.flow.plan import Plan, delayed, due, scheduled_run_id
from forktex_core.flow.store.schedules import ScheduleStore

_logger = logging.getLogger("forktex_core.flow.schedules")


class FireSchedules:
    """See the top of the file.

    Args:
        store: queries on the pool.
        on_freed: called with the queues in which runs became due.
    """

    def __init__(self, store: ScheduleStore, on_freed: Callable[[list[str]], None]) -> None:
        self._store = store
        self._on_freed = on_freed

    async def perform(self, worker: int, term: int) -> None:
        """Fire what is due, in an office."""
        for row in await self._store.due_schedules():
            try:
                await self._fire(worker, term, row)
            except DatabaseUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - one broken schedule must not hold up the others
                _logger.warning("schedule %r could not fire: %s", row["name"], error)

    async def _fire(self, worker: int, term: int, row: Any) -> None:
        name = row["name"]
        if row["lane"] is None:
            _logger.warning(
                "schedule %r: no worker ever served workflow %r, or it is retired",
                name, row["workflow"],
            )  # fmt: skip
            return
        found = due(Plan.load(row["plan"]), row["next_at"], row["now"], row["catch_up"])
        outcomes = await self._store.fire_schedule(
            worker, term, name, row["revision"],
            [scheduled_run_id(name, time) for time in found.fire], found.fire,
            [delayed(name, time, row["jitter"]) for time in found.fire],
            row["version"], row["lane"], found.next_at, found.skipped,
        )  # fmt: skip
        if found.skipped and outcomes is not None:
            _logger.warning(
                "schedule %r: %d times were missed by more than its catch_up", name, found.skipped
            )
        if outcomes and "started" in outcomes:
            self._on_freed([row["queue"]])
