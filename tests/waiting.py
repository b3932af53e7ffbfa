# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Waiting for what another task, thread or process does, without guessing how long it takes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

POLL = 0.01


async def eventually[T](condition: Callable[[], T | Awaitable[T]], timeout: float = 20) -> T:
    """The first truthy value of ``condition``, sync or async.

    AssertionError after ``timeout`` seconds: long, as a busy machine needs them, and nobody waits
    longer for what comes."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"{name} still gave {value!r} after {timeout} s")
        await asyncio.sleep(POLL)
