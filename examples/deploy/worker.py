# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker process of the demo: ``python -m examples.deploy.worker NAME``.

The same as ``forktex-flow worker examples.deploy.pipeline:flow --name NAME``, but it also ends when
the demo that started it is gone, however that came about: a worker may die at any moment.
"""

import asyncio
import logging
import os
import sys
import threading

from examples.deploy.pipeline import flow


def end_with_the_demo() -> None:
    """End this process when its standard input does: the demo holds the other end."""
    sys.stdin.buffer.read()
    os._exit(1)


async def serve(name: str) -> None:
    """Serve until SIGTERM."""
    async with flow:
        await flow.run_worker(handle_signals=True, name=name, drain=5.0)


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    threading.Thread(target=end_with_the_demo, daemon=True).start()
    asyncio.run(serve(sys.argv[1]))
