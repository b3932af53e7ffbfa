# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a run shows to the outside while it goes on."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from forktex_core.flow.client import Client
from forktex_core.flow.codec import ANY
from forktex_core.flow.errors import RunNotFoundError
from forktex_core.flow.gate import guarded
from forktex_core.flow.identity import as_run_id
from forktex_core.flow.outgoing import PROGRESS


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run says it is: so much ``done`` of a ``total``, and a ``message``."""

    done: float
    total: float | None = None
    message: str | None = None


class Shown(Client):
    """The part of Flow that reads what runs publish."""

    @guarded("read")
    async def published(self, run_id: UUID | str, key: str, default: Any = None) -> Any:
        """Return what a run last published under a key, ``default`` when it published nothing
        there.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run_id = as_run_id(run_id)
        store = self._open.store
        row = await store.published(run_id, key)
        if row is None:
            raise RunNotFoundError(run_id)
        if row["key"] is None:
            return default
        return ANY.decode(store.decode(row["value"]), f"value {key!r}")

    @guarded("read")
    async def progress(self, run_id: UUID | str) -> "Progress | None":
        """Return how far a run says it is, None when it says nothing.

        Raises:
            RunNotFoundError: there is no such run.
        """
        found = await self.published(run_id, PROGRESS)
        return None if found is None else Progress(**found)
