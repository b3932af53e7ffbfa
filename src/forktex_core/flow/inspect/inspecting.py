# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The part of Flow that looks."""

from forktex_core.flow.client import Client
from forktex_core.flow.inspect.fleet import Fleet
from forktex_core.flow.inspect.runs import Reading, Runs


class Inspecting(Client):
    """What a Flow knows of its runs and workers."""

    @property
    def runs(self) -> Runs:
        """A query for all runs, the newest first: ``flow.runs.where(status="failed").page(20)``."""
        return Runs(Reading(self))

    @property
    def fleet(self) -> Fleet:
        """Who works: workers, leader, what they serve, and what queues have to do."""
        return Fleet(self)
