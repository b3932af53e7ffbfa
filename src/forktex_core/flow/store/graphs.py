# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queries about graphs that are data, one typed method each."""

from typing import Any
from uuid import UUID

from forktex_core.flow.errors import AccessDeniedError
from forktex_core.flow.store.base import Queries


class GraphStore(Queries):
    """Versions of graphs by namespace, and the runs of a version. For a principal that has a
    namespace of its own, every other one is empty and takes nothing.
    """

    def has(self, namespace: str) -> bool:
        """Say whether a namespace is there for the principal."""
        return self.view.namespace in (None, namespace)

    async def save_graph(
        self, namespace: str, name: str, document: str, expected: int | None
    ) -> Any:
        """Save the next version; return outcome (saved, lost) and version."""
        if not self.has(namespace):
            raise AccessDeniedError("definition.change", f"namespace {namespace!r} is not yours")
        return await self._row("save_graph", namespace, name, document, expected)

    async def graph_head(self, namespace: str, name: str) -> Any:
        """Return latest and active, or None."""
        if not self.has(namespace):
            return None
        return await self._row("graph_head", namespace, name)

    async def graph_document(self, namespace: str, name: str, version: int) -> str | None:
        """Return the document of a version, or None."""
        if not self.has(namespace):
            return None
        row = await self._row("graph_document", namespace, name, version)
        return None if row is None else row["document"]

    async def activate_graph(
        self, namespace: str, name: str, version: int | None, *, check: bool, expected: int | None
    ) -> bool:
        """Make a version the active one; False when there is none, or another one was active."""
        if not self.has(namespace):
            return False
        row = await self._row("activate_graph", namespace, name, version, check, expected)
        return row is not None

    async def list_graphs(self, namespace: str, after: str, limit: int) -> list[Any]:
        """Return a page of name, latest, active and changed_at."""
        if not self.has(namespace):
            return []
        return await self._rows("list_graphs", namespace, after, limit)

    async def runs_of_version(self, workflow: str, version: int, after: UUID) -> list[Any]:
        """Return unfinished runs after an id, with their positions."""
        return await self._rows("runs_of_version", workflow, version, after)

    async def move_run(  # noqa: PLR0917 - in the order of the query
        self, run_id: UUID, claim: int, seq: int, version: int, lane: str, value: str
    ) -> Any:
        """Move a run that rests; return outcome (done, moved) and queue."""
        text = self.encode(value)
        return await self._row("move_run", run_id, claim, seq, version, lane, text)
