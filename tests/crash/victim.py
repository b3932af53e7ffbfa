# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker that kills itself at a point: ``python -m tests.crash.victim DSN SCHEMA LOG POINT``."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.crash.points import MortalFlow, Point
from tests.crash.programs import Effects, register


def kill_myself() -> None:
    """Die without a chance to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


async def serve(dsn: str, schema: str, log: str, point: str) -> None:
    """Serve until death."""
    flow = MortalFlow(dsn, schema=schema)
    register(flow, Effects(Path(log)))
    async with flow:
        flow.doom(Point.parse(point), kill_myself)
        await flow.run_worker()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
