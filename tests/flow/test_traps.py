# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Traps of the protocol that a body can fall into: timers (6), warm runs (7), locks (10)."""

import asyncio

import asyncpg
import pytest

from forktex_core.flow import Flow, FlowContext
from tests.waiting import eventually


@pytest.mark.parametrize("form", ["timeout", "wait_for", "sleep", "wait_signal"])
async def test_a_time_limit_does_not_start_anew_at_a_replay(
    flow: Flow, serving, sql, form: str
) -> None:
    """A limit that a body set stays at its moment, whatever happens to the process (trap 6)."""

    async def two(ctx: FlowContext) -> None:
        await ctx.wait_signal("first")
        await ctx.wait_signal("second")

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        if form == "timeout":
            async with asyncio.timeout(3600):
                await two(ctx)
        elif form == "wait_for":
            await asyncio.wait_for(two(ctx), 3600)
        elif form == "sleep":
            await ctx.select(limit=ctx.sleep(3600), work=two(ctx))
        else:
            await ctx.gather(ctx.wait_signal("end", timeout=3600), two(ctx))

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await eventually(lambda: not flow._workers[0]._active)
        before = await sql.fetchval("SELECT due_at FROM run")
        await flow.send_signal(run_id, "first")
        await eventually(lambda: sql.fetchval("SELECT claim = 2 AND status = 'waiting' FROM run"))
        assert await sql.fetchval("SELECT due_at FROM run") == before
        await flow.send_signal(run_id, "second")
        await flow.send_signal(run_id, "end")
        await flow.result(run_id, timeout=10)


async def test_a_warm_run_that_went_on_elsewhere_is_not_reused(
    flow: Flow, serving, sql, postgres, schema: str
) -> None:
    """What a worker holds warm counts only when nobody claimed the run in between (trap 7)."""

    def build(flow: Flow, ran: list[str]) -> Flow:
        @flow.workflow(name="body")
        async def body(ctx: FlowContext) -> list[str]:
            ran.append("began")
            return [await ctx.wait_signal("s"), await ctx.wait_signal("s")]

        return flow

    here, there = [], []
    other = Flow(postgres.url, schema=schema)
    async with serving(build(flow, here)):
        run_id = await flow.start("body")
        await eventually(lambda: flow._workers and flow._workers[0]._warm)
        store = flow._workers[0]._claim_store
        claim = store.claim_runs

        async def none(*_, **__):
            return [], None

        store.claim_runs = none
        async with serving(build(other, there)):
            await flow.send_signal(run_id, "s", "elsewhere")
            await eventually(
                lambda: sql.fetchval("SELECT claim = 2 AND status = 'waiting' FROM run")
            )
        store.claim_runs = claim
        await flow.send_signal(run_id, "s", "here")
        assert await flow.result(run_id, timeout=10) == ["elsewhere", "here"]
    assert (here, there) == (["began", "began"], ["began"])


async def test_signals_lock_their_runs_in_the_order_of_ids(
    flow: Flow, sql, postgres, schema: str
) -> None:
    """Whoever sends to many runs waits for the first one without holding a later one, so two such
    senders never wait in a circle (trap 10).
    """

    @flow.workflow()
    async def body(ctx: FlowContext) -> None: ...

    async with flow:
        first, second = sorted([await flow.start("body"), await flow.start("body")])
        blocking = await asyncpg.connect(postgres.dsn)
        try:
            transaction = blocking.transaction()
            await transaction.start()
            lock = f'SELECT FROM "{schema}".run WHERE id = $1 FOR NO KEY UPDATE'
            await blocking.execute(lock, first)
            signals = [(second, "s", "1"), (first, "s", "1")]
            sending = asyncio.create_task(flow._opened.store.put_signals(signals))
            await eventually(
                lambda: sql.fetchval(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )
            )
            await blocking.execute(f"{lock} NOWAIT", second)
            await transaction.rollback()
            assert len(await sending) == 2
        finally:
            await blocking.close()
