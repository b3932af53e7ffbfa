# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The acknowledgement of a commit is lost: the statement took effect, and its sender can't know."""

import asyncio
from collections import Counter
from urllib.parse import urlsplit

import pytest

from forktex_core.flow import Flow
from forktex_core.flow.store.sql import quote_identifier
from tests.conftest import execute
from tests.crash.programs import LEDGER, PROGRAMS, Effects, register
from tests.crash.proxy import Proxy
from tests.crash.test_every_statement import begin, violations, worker

SEVERAL = ("chain", "fan", "signals", "sleeper")


async def make_ledger(postgres, schema: str) -> None:
    await execute(postgres, LEDGER.replace("{schema}", quote_identifier(schema)))


async def lose(
    postgres, schema: str, purpose: str, number: int, name: str
) -> tuple[Proxy, Effects]:
    """Run a program while the n-th acknowledgement of a purpose is lost; check its result."""
    address = urlsplit(postgres.dsn)
    effects = Effects()
    async with Proxy(str(address.hostname), address.port or 5432, purpose, number) as proxy:
        through = postgres.dsn.replace(f":{address.port}/", f":{proxy.port}/") + "?sslmode=disable"
        async with Flow(postgres.dsn, schema=schema) as client:
            await make_ledger(postgres, schema)
            serving = Flow(through, schema=schema)
            register(serving, effects)
            register(client, Effects())
            async with serving, worker(serving):
                run_id = await begin(client, PROGRAMS[name])
                assert await client.result(run_id, timeout=20) == PROGRAMS[name].result
    return proxy, effects


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("purpose", ["journal", "endings"])
async def test_nothing_is_done_twice(postgres, schema: str, sql, purpose: str, name: str) -> None:
    """Whichever write of the worker loses its acknowledgement, it finds out that it took effect:
    the result is right, and no step ran twice, since nobody died.
    """
    number = 1
    while True:
        proxy, effects = await lose(postgres, schema, f"forktex-flow {purpose}", number, name)
        assert [e for e, n in Counter(effects.all()).items() if n > 1 and name != "retried"] == []
        assert await violations(sql, schema) == []
        if not proxy.lost:
            break
        number += 1
    assert number > 1, "no acknowledgement was lost: the test saw nothing"


@pytest.mark.parametrize("number", [1, 2])
async def test_a_claim_whose_answer_is_lost(postgres, schema: str, sql, number: int) -> None:
    """A worker that doesn't know what it claimed gives it back and runs it, in a few seconds."""
    purpose = "forktex-flow claims"
    proxy, effects = await lose(postgres, schema, purpose, number, "sleeper")
    assert proxy.lost == 1
    assert [n for n in Counter(effects.all()).values() if n > 1] == []
    assert await violations(sql, schema) == []


@pytest.mark.parametrize("number", [2, 4, 6])  # the driver's own first statements count, too
async def test_many_runs_share_a_lost_flush(postgres, schema: str, sql, number: int) -> None:
    """A flush with entries of fifty runs loses its acknowledgement: all go on, none twice."""
    address = urlsplit(postgres.dsn)
    effects = Effects()
    purpose = "forktex-flow journal"
    async with Proxy(str(address.hostname), address.port or 5432, purpose, number) as proxy:
        through = postgres.dsn.replace(f":{address.port}/", f":{proxy.port}/") + "?sslmode=disable"
        flow = Flow(through, schema=schema)
        register(flow, effects)
        async with flow, worker(flow):
            await make_ledger(postgres, schema)
            # Eight steps are eight flushes at least, however well they are shared.
            ids = await flow.start_many("chain", [8] * 50)
            assert await asyncio.gather(*(flow.result(i, timeout=20) for i in ids)) == [28] * 50
        assert proxy.lost == 1
    assert len(effects.all()) == len(set(effects.all())) == 400
    assert await violations(sql, schema) == []
