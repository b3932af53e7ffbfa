# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the log says while the database does not answer, or refuses to write: one line when that
begins, one when it is over.

A process has some ten loops that talk to Postgres, each with a connection and pauses of its own,
and an outage meets them all. Each tells the one Outage what fails it and when that works again. The
first to fail is logged as a warning, the last to work again as the end; all between is detail.
"""

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from forktex_core.flow.store.connection import Backoff

_logger = logging.getLogger("forktex_core.flow.worker")


class Outage:
    """See the top of the file."""

    def __init__(self) -> None:
        self._failing: set[object] = set()

    def failed(self, source: object, what: str, error: BaseException) -> None:
        """Take note that something fails. ``source`` tells it apart from others, ``what`` names it
        in words.
        """
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing.add(source)
        reason = str(error) or type(error).__name__
        _logger.log(level, "%s: the database fails, it is tried again: %s", what, reason)

    def over(self, source: object) -> None:
        """Take note that it works again, or is not tried any more; safe to repeat."""
        if source in self._failing:
            self._failing.discard(source)
            if not self._failing:
                _logger.info("the database works again")

    def patience(self, what: str) -> "Patience":
        """Return the pauses of something that is tried until it works: ``with ... as patience:``,
        around all tries.
        """
        return Patience(self, what)

    async def wait_out[T](
        self,
        what: str,
        attempt: Callable[[], Awaitable[Any]],
        only: type[Exception] = Exception,
    ) -> T:
        """Try until it works; errors that are not ``only`` such pass."""
        with self.patience(what) as patience:
            while True:
                try:
                    return await attempt()  # type: ignore[no-any-return]
                except only as error:
                    await patience.pause(error)


class Patience:
    """The tries of one thing, with growing pauses in between."""

    def __init__(self, outage: Outage, what: str) -> None:
        self._outage, self._what = outage, what
        self._backoff = Backoff()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._outage.over(self)

    async def pause(self, error: BaseException) -> None:
        """Take note of a failure and wait, longer each time."""
        self._outage.failed(self, self._what, error)
        await self._backoff.pause()
