# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker on uvloop's event loop, which is no subclass of asyncio's own."""

import asyncio
import secrets

import pytest

from forktex_core.flow import Flow
from forktex_core.flow.store.sql import quote_identifier
from tests.conftest import execute
from tests.crash.programs import LEDGER, PROGRAMS, Effects, register
from tests.crash.test_every_statement import begin, worker

uvloop = pytest.importorskip("uvloop")


async def run_all(postgres, schema: str) -> list[object]:
    """Run every program of the crash tests; return their results."""
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    flow = Flow(postgres.dsn, schema=schema)
    register(flow, Effects())
    async with flow, worker(flow):
        await execute(postgres, LEDGER.replace("{schema}", quote_identifier(schema)))
        ids = [await begin(flow, program) for program in PROGRAMS.values()]
        return list(await asyncio.gather(*(flow.result(i, timeout=20) for i in ids)))


def test_every_kind_of_work_on_uvloop(postgres) -> None:
    """Steps, branches, timers, signals, children, transactions, compensations: all end as they do
    on asyncio's loop.
    """
    schema = f"uvloop_{secrets.token_hex(6)}"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(run_all(postgres, schema))
        assert results == [program.result for program in PROGRAMS.values()]
        runner.run(execute(postgres, f"DROP SCHEMA {schema} CASCADE"))
