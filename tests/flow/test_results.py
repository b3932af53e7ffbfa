# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Waiting for results: what many callers cost, and what is said of runs that are not there."""

import asyncio
from uuid import uuid4

import pytest

from forktex_core.flow import DatabaseUnavailableError, Flow, RunNotFoundError
from tests.waiting import eventually


class CountedStore:
    """A store whose questions for outcomes are counted, and can be made to fail."""

    def __init__(self, store) -> None:
        self._outcomes = store.outcomes
        self.asked = 0
        self.failure: Exception | None = None
        store.outcomes = self

    async def __call__(self, runs, unsure):
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return await self._outcomes(runs, unsure)


def echoing(flow: Flow) -> None:
    @flow.workflow()
    async def echo(ctx, n: int) -> int:
        return n


async def test_many_callers_share_one_question(flow: Flow, serving) -> None:
    """Two hundred results of ended runs, one of them awaited twice, are one statement."""
    echoing(flow)
    async with serving(flow):
        ids = await flow.start_many("echo", range(200))
        await asyncio.gather(*(flow.result(i, timeout=20) for i in ids))
    async with flow:  # opened anew: no news of these ends is under way any more
        counted = CountedStore(flow._opened.store)
        again = await asyncio.gather(*(flow.result(i, timeout=20) for i in [*ids, ids[0]]))
        assert again == [*range(200), 0]
        assert counted.asked == 1


async def test_a_run_that_ends_in_this_process_costs_no_question(flow: Flow, serving) -> None:
    """Who waits already is told what the worker wrote; failures, too, and in the annotated type."""

    @flow.workflow()
    async def waits(ctx, fails: bool) -> bytes:
        await ctx.wait_signal("go")
        if fails:
            raise KeyError("lost")
        return b"\xff"

    async with serving(flow):
        counted = CountedStore(flow._opened.store)
        ids = [await flow.start("waits", fails) for fails in (False, True)]
        waiting = [asyncio.create_task(flow.result(i, timeout=20)) for i in ids]
        await eventually(lambda: counted.asked and not flow._opened.results._asking)
        counted.failure = ConnectionError("nobody is to ask")
        for run_id in ids:
            await flow.send_signal(run_id, "go")
        found = await asyncio.gather(*waiting, return_exceptions=True)
    assert found[0] == b"\xff"
    assert isinstance(found[1], KeyError)


async def test_an_unknown_run_among_known_ones(flow: Flow, serving) -> None:
    """A run that is not there is told to its own callers, and to nobody else."""
    echoing(flow)
    async with serving(flow):
        known = await flow.start("echo", 7)
        missing = uuid4()
        found = await asyncio.gather(
            *(flow.result(i, timeout=20) for i in (missing, known, missing)), return_exceptions=True
        )
    assert [type(found[0]), found[1], type(found[2])] == [RunNotFoundError, 7, RunNotFoundError]
    assert str(missing) in str(found[0])


async def test_the_first_question_fails_at_its_caller_later_ones_are_asked_again(
    flow: Flow, serving
) -> None:
    """A database that is away fails a new wait at once; a wait that stood already is not hurt."""
    echoing(flow)
    async with flow:
        run = await flow.start("echo", 1)
        counted = CountedStore(flow._opened.store)
        standing = asyncio.create_task(flow.result(run))
        while counted.asked == 0:
            await asyncio.sleep(0)
        counted.failure = DatabaseUnavailableError("nowhere", OSError("gone"))
        with pytest.raises(DatabaseUnavailableError, match="nowhere"):
            await flow.result(uuid4())
        assert not standing.done()
        counted.failure = None
        async with serving(flow):
            assert await standing == 1


async def test_a_wait_that_gives_up_leaves_nothing_behind(flow: Flow) -> None:
    """After a timeout nobody is waiting any more, and the message says that the run goes on."""
    echoing(flow)
    async with flow:
        run = await flow.start("echo", 1)
        with pytest.raises(
            TimeoutError, match=rf"run {run} has not ended within 0.01 s; it goes on"
        ):
            await flow.result(run, timeout=0.01)
        results = flow._opened.results
        assert (results._waiting, results._unsure) == ({}, set())
