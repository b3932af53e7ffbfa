# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Starting runs: idempotency, bulk, order, time, and starting what only others serve."""

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from forktex_core.flow import Flow
from forktex_core.flow.identity import new_run_id


async def test_idempotency_key_starts_once(flow: Flow, sql) -> None:
    """Twenty starts at once with one key make one run, and all return its id."""

    @flow.workflow()
    async def once(ctx) -> None: ...

    async with flow:
        ids = await asyncio.gather(*(flow.start("once", idempotency_key="k") for _ in range(20)))
        other = await flow.start("once", idempotency_key="other")
    assert len(set(ids)) == 1
    assert other not in ids
    assert await sql.fetchval("SELECT count(*) FROM run") == 2


async def test_start_many_returns_ids_in_order(flow: Flow, serving) -> None:
    """Each input's run is at its input's place."""

    @flow.workflow()
    async def echo(ctx, n: int) -> int:
        return n

    async with serving(flow):
        ids = await flow.start_many("echo", range(300))
        assert ids == sorted(ids)
        assert await asyncio.gather(*(flow.result(i, timeout=20) for i in ids)) == list(range(300))
        assert await flow.start_many("echo", []) == []


async def test_priority_and_delay(flow: Flow, serving, sql) -> None:
    """Higher priority goes first; what is due later waits."""
    order: list[str] = []

    @flow.workflow()
    async def note(ctx, name: str) -> None:
        order.append(name)

    async with flow:
        await flow.start("note", "low", priority=-1)
        await flow.start("note", "late", delay=timedelta(seconds=2), priority=9)
        await flow.start("note", "past", at=datetime.now(UTC) - timedelta(days=1))
        last = await flow.start("note", "high", priority=5)
        assert last
    async with serving(flow, concurrency=1):
        ids = [r["id"] for r in await sql.fetch("SELECT id FROM run")]
        await asyncio.gather(*(flow.result(i, timeout=10) for i in ids))
    assert order == ["high", "past", "low", "late"]


async def test_a_client_starts_what_others_serve(
    flow: Flow, serving, postgres, schema: str
) -> None:
    """A process without the definition starts a workflow by the name that a worker registered."""

    @flow.workflow(name="elsewhere", version=3)
    async def elsewhere(ctx, n: int) -> int:
        return n + 1

    async with serving(flow), Flow(postgres.url, schema=schema) as client:
        await asyncio.wait_for(flow._workers[0].ready.wait(), 10) if flow._workers else None
        await flow.run("elsewhere", 1, timeout=10)
        assert await client.run("elsewhere", 41, timeout=10) == 42


@given(st.integers(min_value=1, max_value=300))
def test_run_ids_grow(count: int) -> None:
    """Ids are UUIDv7 of RFC 9562 and strictly monotonic within a process."""
    ids = [new_run_id() for _ in range(count)]
    assert ids == sorted(set(ids))
    assert all(i.version == 7 and i.variant == "specified in RFC 4122" for i in ids)
