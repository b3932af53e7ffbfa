# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a service decides about a worker."""

import os
import socket
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker works.

    Args:
        queues: the queues that it serves.
        concurrency: runs that it advances at the same time.
        name: what it is called in views; host and process id by default.
        drain: seconds that stop() gives to running steps.
        lease: seconds after which a silent worker's runs are handed on in any case.
        hold: a run that waits no longer than this many seconds keeps its claim.
        warm: parked runs that stay in memory, so that they need no replay.
        lead: whether the worker bids for the leadership.
    """

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 100
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    drain: float = 20.0
    lease: float = 15.0
    hold: float = 0.2
    warm: int = 1000
    lead: bool = True

    def __post_init__(self) -> None:
        if not self.queues or not all(self.queues):
            raise ValueError(f"queues must name at least one queue, not {self.queues!r}")
        for name, least in (
            ("concurrency", 1),
            ("drain", 0),
            ("lease", 3),
            ("hold", 0),
            ("warm", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)!r}")
