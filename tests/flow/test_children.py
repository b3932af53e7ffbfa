# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Children: their results, their failures, what becomes of them, and what ten thousand cost."""

import asyncio

import pytest

from forktex_core.flow import Flow, FlowContext, RunCancelled, RunFailed
from tests.waiting import eventually


async def test_results_and_failures_come_to_the_parent(flow: Flow, serving, sql) -> None:
    """A child's output is what its annotation says; its failure is raised at the parent with the
    original type; a handle may be asked more than once.
    """

    @flow.workflow()
    async def square(ctx: FlowContext, n: int) -> int:
        if n < 0:
            raise ValueError(f"no square of {n}")
        return n * n

    @flow.workflow()
    async def parent(ctx: FlowContext) -> list:
        handle = await ctx.start_child(square, 3)
        got = [await ctx.run_child("square", 2), *await asyncio.gather(*[handle.result()] * 3)]
        try:
            await ctx.run_child(square, -1)
        except ValueError as error:
            got += [type(error).__mro__[1].__name__, str(error)]
        return [*got, str(handle.run_id)]

    async with serving(flow, warm=0):
        run_id = await flow.start("parent")
        *got, child = await flow.result(run_id, timeout=10)
    assert got == [4, 9, 9, 9, "RunFailed", "no square of -1"]
    row = await sql.fetchrow(
        "SELECT parent_id, parent_key, output FROM run WHERE id = $1::uuid", child
    )
    assert tuple(row) == (run_id, "1", "9")


async def test_a_child_that_fails_fails_its_parent(flow: Flow, serving) -> None:
    """What the parent doesn't catch ends it as well, with the same text."""

    @flow.workflow()
    async def child(ctx: FlowContext) -> None:
        raise LookupError("not there")

    @flow.workflow()
    async def parent(ctx: FlowContext) -> None:
        await ctx.run_child(child)

    async with serving(flow):
        with pytest.raises(LookupError, match="not there"):
            await flow.run("parent", timeout=10)


@pytest.mark.parametrize("policy", ["cancel", "terminate", "abandon"])
@pytest.mark.parametrize("how", ["cancelled", "fails"])
async def test_parent_close(flow: Flow, serving, sql, policy: str, how: str) -> None:
    """When a parent ends, its open children are asked to stop, are ended without clean-up, or go
    on, as they were started; grandchildren likewise.
    """
    cleaned: list[str] = []

    @flow.workflow()
    async def grandchild(ctx: FlowContext) -> None:
        try:
            await ctx.wait_signal("never")
        finally:
            await ctx.step(cleaned.append, "grandchild")

    @flow.workflow()
    async def child(ctx: FlowContext) -> None:
        await ctx.start_child(grandchild)
        try:
            await ctx.wait_signal("never")
        finally:
            await ctx.step(cleaned.append, "child")

    @flow.workflow()
    async def parent(ctx: FlowContext) -> None:
        await ctx.start_child(child, parent_close=policy)
        await ctx.start_child(child, delay=3600, parent_close=policy)
        await ctx.wait_signal("go")
        raise RuntimeError("the parent failed")

    async def statuses() -> dict[str, str]:
        rows = await sql.fetch("SELECT workflow, status, started_at FROM run ORDER BY started_at")
        return {f"{r['workflow']}{'' if r['started_at'] else ' later'}": r["status"] for r in rows}

    async with serving(flow):
        run_id = await flow.start("parent")
        await eventually(
            lambda: sql.fetchval("SELECT count(*) = 3 FROM run WHERE status = 'waiting'")
        )
        await (flow.cancel(run_id) if how == "cancelled" else flow.send_signal(run_id, "go"))
        with pytest.raises(RunFailed):
            await flow.result(run_id, timeout=10)
        left = "waiting" if policy == "abandon" else "cancelled"
        await eventually(
            lambda: sql.fetchval("SELECT status = $1 FROM run WHERE workflow = 'grandchild'", left)
        )
        assert await statuses() == {
            "parent": "cancelled" if how == "cancelled" else "failed",
            "child": left,
            "child later": "pending" if policy == "abandon" else "cancelled",
            "grandchild": left,
        }
        # A terminated child cleans nothing up; its own child was started to be cancelled.
        expected = {"cancel": ["child", "grandchild"], "terminate": ["grandchild"]}
        assert cleaned == expected.get(policy, [])


async def test_cancelling_the_wait_cancels_the_child(flow: Flow, serving, sql) -> None:
    """A run_child() that is given up cancels its child, and a handle's cancel() as well; giving up
    handle.result() doesn't.
    """

    @flow.workflow()
    async def child(ctx: FlowContext, name: str) -> None:
        await ctx.wait_signal("never")

    @flow.workflow()
    async def parent(ctx: FlowContext) -> list:
        lost = await ctx.select(c=ctx.run_child(child, "run"), t=ctx.sleep(0.05))
        asked = await ctx.start_child(child, "asked")
        left = await ctx.start_child(child, "left", parent_close="abandon")
        await ctx.select(c=left.result(), t=ctx.sleep(0.01))
        await asked.cancel("enough")
        try:
            await asked.result()
        except RunCancelled as error:
            return [lost, str(error)]
        return []

    async with serving(flow):
        assert await flow.run("parent", timeout=10) == [
            ["t", None],
            "the run was cancelled: enough",
        ]
        await eventually(
            lambda: sql.fetchval("SELECT count(*) = 2 FROM run WHERE status = 'cancelled'")
        )
        names = await sql.fetch("SELECT input #>> '{}' AS n FROM run WHERE status = 'waiting'")
        assert [r["n"] for r in names] == ["left"]


async def test_ten_thousand_children(flow: Flow, serving, sql) -> None:
    """Starting 10,000 children takes a few statements, and so does hearing of their ends: each is
    looked at a few times, not each at each end.
    """
    many = 10_000

    @flow.workflow()
    async def child(ctx: FlowContext, n: int) -> int:
        return n

    @flow.workflow()
    async def parent(ctx: FlowContext) -> int:
        handles = await asyncio.gather(
            *(ctx.start_child(child, n, queue="later") for n in range(many))
        )
        await ctx.wait_signal("go")
        return sum(await asyncio.gather(*(h.result() for h in handles)))

    async with serving(flow):
        run_id = await flow.start("parent")
        await eventually(
            lambda: sql.fetchval("SELECT status = 'waiting' FROM run WHERE id = $1", run_id),
            timeout=30,
        )
        assert await sql.fetchval("SELECT count(*) FROM run") == many + 1
        worker = flow._workers[0]
        assert worker._journal.flushes <= many / 1000, worker._journal.flushes
        # The children's ends, as finish_runs tells them.
        execution = worker._warm[run_id]
        looked = 0

        class Counting(dict):
            def get(self, name, default=None):
                nonlocal looked
                looked += 1
                return super().get(name, default)

        execution.inbox._waits = Counting(execution.inbox._waits)
        await sql.execute(
            "INSERT INTO signal (run_id, no, name, payload)"
            " SELECT $1, c.n, '$child:' || c.parent_key,"
            " json_build_object('status', 'succeeded', 'output', c.input, 'error', NULL) FROM"
            " (SELECT c.*, row_number() OVER () AS n FROM run c WHERE parent_id = $1) c",
            run_id,
        )
        await sql.execute("UPDATE run SET signal_seq = $2 WHERE id = $1", run_id, many)
        await flow.send_signal(run_id, "go")
        assert await flow.result(run_id, timeout=60) == sum(range(many))
    assert looked < 10 * many


async def test_starting_a_child_twice_is_one_run(flow: Flow, serving, sql) -> None:
    """A parent that is replayed from the top, its journal lost, starts the very same children."""
    seen: list[str] = []

    @flow.workflow()
    async def child(ctx: FlowContext) -> None: ...

    @flow.workflow()
    async def parent(ctx: FlowContext) -> None:
        handle = await ctx.start_child(child, delay=3600)
        seen.append(str(handle.run_id))
        await ctx.wait_signal("go")

    async with serving(flow, warm=0):
        run_id = await flow.start("parent")
        await eventually(
            lambda: sql.fetchval("SELECT status = 'waiting' FROM run WHERE id = $1", run_id)
        )
        await eventually(lambda: not flow._workers[0]._active)
        await sql.execute("DELETE FROM journal")
        await flow.send_signal(run_id, "go")
        await flow.result(run_id, timeout=10)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert await sql.fetchval("SELECT count(*) FROM run") == 2


async def test_a_child_that_nobody_serves_needs_a_version(flow: Flow, serving) -> None:
    """A name that isn't registered here is refused, unless its version is given."""

    @flow.workflow()
    async def parent(ctx: FlowContext, version: int | None) -> str:
        handle = await ctx.start_child("elsewhere", {"a": 1}, version=version)
        return str(handle.run_id)

    async with serving(flow):
        with pytest.raises(RunFailed, match="there is no workflow 'elsewhere'"):
            await flow.run("parent", None, timeout=10)
        assert await flow.run("parent", 3, timeout=10)
