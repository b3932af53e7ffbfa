# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The journal writer against real refusals of a real Postgres (trap 4)."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from forktex_core.flow import Flow
from forktex_core.flow.engine.journal import JournalWriter, entry_row
from forktex_core.flow.replay import Entry
from forktex_core.flow.store.effects import EffectColumns, NewValue
from tests.flow.test_engine import worker_row
from tests.waiting import eventually


@dataclass(eq=False)
class Listener:
    """What the writer needs of an execution: it hears what became of its entries."""

    run_id: UUID = field(default_factory=uuid4)
    sealed: bool = False
    heard: dict[str, Any] = field(default_factory=dict)

    def committed(self, entry: Entry) -> None:
        self.heard[entry.key] = "committed"

    def refused(self, entry: Entry, error: BaseException) -> None:
        self.heard[entry.key] = error


def entry(number: int, value: str = "1", key: str | None = None, attempt: int = 1) -> Entry:
    return Entry(key or str(number), number, "step", "s", False, value, 1, attempt, 0.0, 0.0)


REFUSALS = {
    "a NUL character": {"value": '"a\x00b"'},
    "a lone surrogate": {"value": '"\ud800"'},
    "no JSON": {"value": "{"},
    "a key too large for its index": {
        "key": "".join(random.Random(1).choices("0123456789abcdef", k=9000))
    },
    "a number out of range": {"attempt": 1 << 31},
    "JSON too deep": {"value": "[" * 100_000 + "]" * 100_000},
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("effects", [False, True])
async def test_a_poisoned_flush_refuses_the_guilty_alone(
    flow: Flow, sql, what: str, effects: bool
) -> None:
    """Among fifty entries of as many runs, those that Postgres won't store are told so, each alone;
    all others are written, and so is what comes after.
    """
    async with flow:
        worker = await worker_row(sql)
        lost: list[Any] = []
        writer = JournalWriter(flow._opened.store, lambda: worker, lost.append, lambda _: None)
        runs = [Listener() for _ in range(50)]
        guilty = {7, 8, 31}
        for number, run in enumerate(runs):
            bad = REFUSALS[what] if number in guilty else {}
            shown = (NewValue(run.run_id, "k", "1", 1),) if effects else ()
            writer.append((run, entry(number, **bad), None, shown))
        task = asyncio.create_task(writer.run())
        await eventually(lambda: all(run.heard for run in runs))
        later = Listener()
        writer.append((later, entry(1), None, ()))
        await eventually(lambda: later.heard)
        task.cancel()
        for number, run in enumerate(runs):
            ((_, heard),) = run.heard.items()
            assert isinstance(heard, Exception) == (number in guilty), heard
        assert lost == []
        assert await sql.fetchval("SELECT count(*) FROM journal") == 48
        assert await sql.fetchval("SELECT count(*) FROM published") == (47 if effects else 0)


async def test_a_flush_whose_answer_was_lost_is_success(flow: Flow, sql) -> None:
    """The connection dies after the commit: the same entries are found, and their runs go on; an
    entry that stands there by another claim is a lost claim.
    """
    async with flow:
        worker = await worker_row(sql)
        lost: list[Any] = []
        store = flow._opened.store
        writer = JournalWriter(store, lambda: worker, lost.append, lambda _: None)
        runs = [Listener() for _ in range(5)]
        other = await worker_row(sql)
        await store.append_entries(other, [entry_row(runs[4].run_id, entry(1))], [])
        real, calls = store.append_entries, []

        async def cut(*args):
            calls.append(await real(*args))
            if len(calls) == 1:
                await sql.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'forktex-flow'"
                )
                await store.run_status(uuid4())  # finds the connection dead
            return calls[-1]

        store.append_entries = cut
        for run in runs:
            writer.append((run, entry(1), None, ()))
        task = asyncio.create_task(writer.run())
        await eventually(lambda: all(run.heard for run in runs[:4]) and lost)
        task.cancel()
    assert [run.heard for run in runs[:4]] == [{"1": "committed"}] * 4
    assert lost == [runs[4]]
    assert await sql.fetchval("SELECT count(*) FROM journal") == 5


async def test_what_a_dropped_run_left_is_not_written(flow: Flow, sql) -> None:
    """An entry that waits for its flush when its run is dropped (the worker was given up, and
    begins a new life) is not written under the new life (trap 7).
    """
    async with flow:
        worker = await worker_row(sql)
        store = flow._opened.store
        writer = JournalWriter(store, lambda: worker, lambda _: None, lambda _: None)
        dropped, other = Listener(), Listener()
        writer.append((dropped, entry(1), None, ()))
        writer.append((other, entry(1), None, ()))
        dropped.sealed = True
        worker = await worker_row(sql)
        task = asyncio.create_task(writer.run())
        await eventually(lambda: other.heard)
        task.cancel()
        assert [r["run_id"] for r in await sql.fetch("SELECT run_id FROM journal")] == [
            other.run_id
        ]
        assert dropped.heard == {}


async def test_a_value_that_was_only_shown_gives_way_to_a_later_one(flow: Flow, sql) -> None:
    """What is shown waits for a moment; what is published meanwhile under the same key stays: were
    it overwritten, a graph's run would seem to rest where it had been before.
    """
    async with flow:
        worker = await worker_row(sql)
        writer = JournalWriter(flow._opened.store, lambda: worker, lambda _: None, lambda _: None)
        task = asyncio.create_task(writer.run())
        run = Listener()
        writer.show(NewValue(run.run_id, "k", '"shown"', 1))
        writer.show(NewValue(run.run_id, "other", '"shown"', 1))
        writer.append((run, entry(1), None, (NewValue(run.run_id, "k", '"published"', 1),)))
        await eventually(lambda: sql.fetchval("SELECT count(*) = 2 FROM published"))
        task.cancel()
    found = dict(await sql.fetch("SELECT key, value FROM published"))
    assert found == {"k": '"published"', "other": '"shown"'}


@pytest.mark.parametrize("place", ["shown", "published"])
async def test_a_value_of_an_earlier_claim_comes_too_late(flow: Flow, sql, place: str) -> None:
    """The worker that had the run before shows what the run has left behind long since."""
    async with flow:
        store, run = flow._opened.store, uuid4()
        first, second = await worker_row(sql), await worker_row(sql)

        async def write(worker: int, number: int, value: str, claim: int) -> None:
            columns = EffectColumns()
            columns.add(int(place == "published"), [NewValue(run, "k", value, claim)])
            entries = [entry_row(run, entry(number))] if place == "published" else []
            await store.append_effects(worker, entries, [], columns)

        await write(second, 1, '"new"', 2)
        await write(first, 2, '"old"', 1)
        assert await sql.fetchval("SELECT value FROM published") == '"new"'
        await write(second, 3, '"newer"', 2)
        assert await sql.fetchval("SELECT value FROM published") == '"newer"'
