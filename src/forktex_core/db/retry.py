# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Repeating a transaction that lost against another one."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from forktex_core.db.constraints import sqlstate
from forktex_core.db.database import IsolationLevel
from forktex_core.db.errors import ConfigurationError, RetriesExhaustedError
from forktex_core.db.registry import get_session

# serialization_failure and deadlock_detected: the server promises that trying again makes sense.
_CONFLICTS = frozenset({"40001", "40P01"})
_FIRST_DELAY = 0.01
_LONGEST_DELAY = 1.0


async def retry_transaction[T](
    work: Callable[[AsyncSession], Awaitable[T]],
    *,
    attempts: int = 5,
    isolation_level: IsolationLevel | None = None,
    name: str = "default",
) -> T:
    """Run `work(session)` in a transaction; again from the start after a conflict.

    A conflict is a serialization failure or a deadlock, in any statement or in the commit. Each
    attempt has a session and a transaction of its own, so `work` must have no effect outside of
    them. Between attempts it waits a random time up to 10 ms, doubling, at most 1 s. A function
    without `async` goes in as `lambda session: session.run_sync(function)`.

    Raises `RetriesExhaustedError` after `attempts` conflicts; every other error at once.
    """
    if attempts < 1:
        raise ConfigurationError(f"attempts must be at least 1, not {attempts}")
    for attempt in range(attempts):
        try:
            async with get_session(name, isolation_level=isolation_level) as session:
                return await _run(work, session)
        except DBAPIError as exc:
            if sqlstate(exc) not in _CONFLICTS:
                raise
            if attempt + 1 == attempts:
                raise RetriesExhaustedError(attempts, exc) from exc
        longest = min(_FIRST_DELAY * 2**attempt, _LONGEST_DELAY)
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - jitter, no secret
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _run[T](work: Callable[[AsyncSession], Awaitable[T]], session: AsyncSession) -> T:
    result = work(session)
    if not isawaitable(result):
        raise ConfigurationError(
            f"{getattr(work, '__name__', work)} is not async; pass "
            "`lambda session: session.run_sync(function)` for a function that takes a plain Session"
        )
    return await result
