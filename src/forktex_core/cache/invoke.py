# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Calling what a user passed, be it ``async def`` or ``def``."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import cast


async def call[**P, R](
    function: Callable[P, Awaitable[R] | R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Await an ``async def``; run a ``def`` in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    result = await asyncio.to_thread(function, *args, **kwargs)
    return await result if inspect.isawaitable(result) else cast("R", result)
