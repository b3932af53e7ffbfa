# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A Flow as a principal may use it."""

from typing import TYPE_CHECKING, Any, override

from forktex_core.flow.client import Opened
from forktex_core.flow.definitions import Defining
from forktex_core.flow.errors import AccessDeniedError
from forktex_core.flow.extension import Action
from forktex_core.flow.inspect.inspecting import Inspecting
from forktex_core.flow.offering import Offering
from forktex_core.flow.queueing import Queueing
from forktex_core.flow.retaining import Retaining
from forktex_core.flow.scheduling import Scheduling
from forktex_core.flow.starting import Starting
from forktex_core.flow.store.view import View

if TYPE_CHECKING:
    from forktex_core.flow.flow import Flow


class ActingFlow(Starting, Offering, Defining, Queueing, Scheduling, Retaining, Inspecting):
    """The calls of a Flow, made on behalf of a principal. Get it as ``flow.as_(principal)``: for
    each request, say. It costs no I/O, and there is nothing to close.

    It has what is done with runs, schedules, queues and definitions; not what sets a process up.
    """

    _acts = True

    def __init__(self, flow: "Flow", principal: Any) -> None:
        self._flow, self._principal = flow, principal
        self._extensions = flow._extensions  # noqa: SLF001 - a part of the Flow
        self._registry = flow._registry  # noqa: SLF001 - a part of the Flow
        self._workers = flow._workers  # noqa: SLF001 - a part of the Flow
        self._max_payload = flow._max_payload  # noqa: SLF001 - a part of the Flow
        self.schema = flow.schema
        self._dsn, self._direct_dsn = flow._dsn, flow._direct_dsn  # noqa: SLF001 - a part of the Flow
        self._pooled, self._codec = flow._pooled, flow._codec  # noqa: SLF001 - a part of the Flow
        self._may_open = not self._extensions.guards
        self._seen: tuple[Opened, Opened] | None = None
        self._passes = set()

    def __repr__(self) -> str:
        return f"<{self._flow!r} as {self._principal!r}>"

    @property
    def _opened(self) -> Opened | None:  # type: ignore[override]  # it opens and closes nothing
        return self._flow._opened  # noqa: SLF001 - a part of the Flow

    @property
    @override
    def _trusted(self) -> Opened:
        return self._flow._trusted  # noqa: SLF001 - a part of the Flow

    @property
    @override
    def _open(self) -> Opened:
        if not self._may_open:
            raise AccessDeniedError(
                "anything", "this call did not pass the gate: it lacks the decorator 'guarded'"
            )
        trusted = self._trusted
        if self._seen is None or self._seen[0] is not trusted:
            self._seen = (trusted, trusted.seen_by(self._view()))
        return self._seen[1]

    def _view(self) -> View:
        extensions, principal = self._extensions, self._principal
        return View(
            extensions.columns,
            extensions.condition(principal),
            extensions.settings(principal),
            extensions.namespace(principal),
        )

    @override
    def _passed(self, action: Action) -> "ActingFlow":
        if self._may_open:
            return self
        passed = ActingFlow(self._flow, self._principal)
        passed._may_open = True
        _ = passed._open
        return passed
