# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queries about what is kept and what is pruned, one typed method each."""

from typing import Any
from uuid import UUID

from forktex_core.flow.store.base import Queries


class RetentionStore(Queries):
    """Retention rules and the pruning of finished runs."""

    async def put_rule(self, *columns: Any) -> None:
        """Make or change a rule: name, older_than, statuses, workflow and export."""
        await self._rows("put_rule", *columns)

    async def rules(self) -> list[Any]:
        """Return all rules."""
        return await self._rows("rules")

    async def delete_rule(self, name: str) -> bool:
        """Remove a rule; False when there is none."""
        return await self._row("delete_rule", name) is not None

    async def outlived_runs(self, rule: str, most: int, most_entries: int) -> list[UUID]:
        """Return a batch of runs that a rule has outlived, oldest first."""
        return (await self._row("outlived_runs", rule, most, most_entries))["runs"]  # type: ignore[no-any-return]

    async def exported_runs(self, runs: list[UUID]) -> list[Any]:
        """Return finished runs whole."""
        return await self._rows("exported_runs", runs)

    async def exported_entries(self, runs: list[UUID]) -> list[Any]:
        """Return the journals of runs, in order."""
        return await self._rows("exported_entries", runs)

    async def prune_runs(self, worker: int, term: int, runs: list[UUID]) -> int | None:
        """Remove finished runs; return how many, or None when the term is past."""
        return (await self._row("prune_runs", worker, term, runs))["pruned"]  # type: ignore[no-any-return]
