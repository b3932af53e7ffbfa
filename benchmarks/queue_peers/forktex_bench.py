# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""This library."""

import asyncio

import course

from forktex_core.queue import Queue

queue = Queue(course.URL, tracing=False)


@queue.job
async def noop(sent: float) -> None:
    """Do nothing."""
    course.note(sent)


asyncio.run(course.run(noop.enqueue, lambda: queue.process(concurrency=100)))
