# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One computation at a time per key in this process.

Protocol: the first caller of a key leads, in its own task and with its own arguments; the others
wait for its outcome. An exception is everybody's, since trying again at once would be a stampede.
A leader that is cancelled, or whose outcome must not be shared, hands over: the waiters start
again, and the first of them leads. A waiter that is cancelled disturbs nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """What a leader found.

    Attributes:
        payload: the value's JSON.
        shared: whether the waiters may have it.
    """

    payload: bytes
    shared: bool = True


class Flights:
    """The computations in flight, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Future[Outcome | None]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    def detach(self, key: str) -> None:
        """Let later callers of a key start afresh; those that wait already go on waiting."""
        self._flights.pop(key, None)

    async def once(self, key: str, lead: Callable[[], Awaitable[Outcome]]) -> bytes:
        """Lead the computation of a key, or wait for the one in flight.

        Raises:
            Exception: whatever the computation raised.
        """
        while (flight := self._flights.get(key)) is not None:
            outcome = await asyncio.shield(flight)
            if outcome is not None:
                return outcome.payload
        return await self._lead(key, lead)

    async def _lead(self, key: str, lead: Callable[[], Awaitable[Outcome]]) -> bytes:
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            outcome = await lead()
            flight.set_result(outcome if outcome.shared else None)
        except Exception as exc:
            flight.set_exception(exc)
            flight.exception()  # retrieved: nobody may be waiting
            raise
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.done():
                flight.set_result(None)
        return outcome.payload
