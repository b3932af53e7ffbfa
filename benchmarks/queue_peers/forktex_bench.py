# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""This library: its defaults, without tracing. The worker's module is loaded before the course, as
those of the other engines are."""

import asyncio

import course

from forktex_core.queue import Queue, Worker

queue = Queue(course.URL, tracing=False)


@queue.job
async def noop(sent: float) -> None:
    """Do nothing."""
    course.note(sent)


asyncio.run(course.run(noop.enqueue, Worker({queue: 1}, concurrency=100).run))
