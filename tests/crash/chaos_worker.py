# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker of the chaos test: ``python -m tests.crash.chaos_worker DSN LOG``."""

import asyncio
import sys
from pathlib import Path

from forktex_core.flow import DatabaseUnavailableError, Flow
from tests.crash.programs import Effects, register


async def serve(dsn: str, log: str) -> None:
    """Serve until killed; a database that is away at the start is waited for."""
    flow = Flow(dsn)
    register(flow, Effects(Path(log)))
    while True:
        try:
            await flow.open()
        except DatabaseUnavailableError:
            await asyncio.sleep(0.2)
        else:
            break
    await flow.run_worker()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
