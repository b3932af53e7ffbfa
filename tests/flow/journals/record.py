# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Write journals of the present engine: ``scripts/in dev python -m tests.flow.journals.record``.

Bodies that have a journal are left alone: what an older engine wrote is the point of it.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow, RunCancelled, RunFailed
from forktex_core.flow.inflight import Journals
from tests.flow.journals.bodies import SCRIPTS, build

FOLDER = Path(__file__).parent


def without_places(text: str) -> str:
    """Take this machine's folders out of recorded tracebacks."""
    for folder in (FOLDER.parents[2], Path(sys.prefix), Path(sys.base_prefix)):
        text = text.replace(f"{folder}/", "")
    return text


async def record(flow: Flow, url: str) -> None:
    """Run each body that has no journal yet, and store what it wrote."""
    async with flow:
        worker = asyncio.create_task(flow.run_worker())
        for name, (value, send) in SCRIPTS.items():
            if (path := FOLDER / f"{name}.json").exists():
                continue
            run_id = await flow.start(name, value)
            if send is not None:
                await send(flow, run_id)
            with contextlib.suppress(RunFailed, RunCancelled):
                await flow.result(run_id, timeout=30)
            async with Journals.reading(flow, url) as journals:
                text = without_places((await journals.read(run_id)).to_json())
            path.write_text(text, encoding="utf-8")
            print(path.name)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


def main() -> None:
    """Record on a throw-away server."""
    with EmbeddedPostgres(durable=False) as server:
        asyncio.run(record(build(server.dsn, "journals", recording=True), server.dsn))


if __name__ == "__main__":
    main()
