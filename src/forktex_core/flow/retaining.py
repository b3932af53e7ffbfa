# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How long finished runs are kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from forktex_core.flow.client import Client
from forktex_core.flow.engine.pruning import Exporter
from forktex_core.flow.gate import guarded, of_process
from forktex_core.flow.retry import seconds
from forktex_core.flow.transitions import FINISHED
from forktex_core.flow.workflow import check_name


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """A rule by which finished runs are pruned; see retain()."""

    name: str
    older_than: timedelta
    statuses: frozenset[str]
    workflow: str | None
    export: bool


class Retaining(Client):
    """The part of Flow that rules over finished runs."""

    _exporter: Exporter | None = None

    @guarded("retention.change")
    async def retain(
        self,
        name: str,
        *,
        older_than: float | timedelta,
        statuses: Iterable[str] = FINISHED,
        workflow: str | None = None,
        export: bool = False,
    ) -> None:
        """Make or change a rule: runs that finished longer ago than this are removed, with their
        journals, signals and all else that is theirs, by the leader, in small batches.

        A run whose parent has not finished stays. Without a rule nothing is ever pruned.

        Args:
            name: the rule's name.
            older_than: seconds (or a timedelta) since the end of the run.
            statuses: any of succeeded, failed and cancelled; all of them by default.
            workflow: only runs of this workflow.
            export: hand the runs to the callback of on_prune() first, and prune none without.

        Raises:
            ValueError: the age is negative, or a status is none that a finished run has.
        """
        check_name(name, "retention rule")
        age = seconds(older_than)
        wanted = frozenset(statuses)
        if age < 0 or not wanted or not wanted <= FINISHED:
            raise ValueError(
                f"retention {name!r}: older_than must not be negative, and statuses must be among "
                f"{sorted(FINISHED)}, not {age:g} and {sorted(wanted)}"
            )
        await self._open.retention.put_rule(
            name, timedelta(seconds=age), sorted(wanted), workflow, export
        )

    @guarded("retention.read")
    async def retention(self) -> list[RetentionRule]:
        """Return all rules."""
        return [
            RetentionRule(
                row["name"], row["older_than"], frozenset(row["statuses"]), row["workflow"],
                row["export"],
            )
            for row in await self._open.retention.rules()
        ]  # fmt: skip

    @guarded("retention.change")
    async def drop_retention(self, name: str) -> bool:
        """Remove a rule; return False when there is none of that name."""
        return await self._open.retention.delete_rule(name)

    @of_process
    def on_prune(self, callback: Exporter) -> Exporter:
        """Set what takes the runs of rules with ``export=True`` before they go; usable as a
        decorator.

        It gets a list of ExportedRun and may be a coroutine function. Whatever it raises keeps
        those runs for the next round. A crash hands the same runs over again: each at least once.
        Set it in every process that runs workers, for any of them may lead.
        """
        self._exporter = callback
        return callback
