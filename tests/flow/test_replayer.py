# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Replaying journals in memory: what fits, what diverges and where, what can't be told."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from forktex_core.flow import Flow, ManifestError
from forktex_core.flow.replay import Entry
from forktex_core.flow.replayer import Journal, Replayed, Replayer, replay

RUN = UUID(int=7)


def entry(key: str, name: str, value: str | None = "1", *, kind: str = "step", **more) -> Entry:
    """An entry of a journal; ``seq`` counts on from the key by default."""
    seq = more.pop("seq", int(key.rpartition(".")[2].partition("#")[0]))
    return Entry(key, seq, kind, name, more.pop("failed", False), value, 1, 1, 1000.0, 1000.0 + seq)


def journal(*entries: Entry, **more) -> Journal:
    """A run in flight of ``body`` with these entries."""
    return Journal(RUN, "body", 1, 1000.0, more.pop("input", None), entries, **more)


def played(body: Callable, *entries: Entry, timeout: float = 10.0, **more) -> Replayed:
    """What a replay of these entries against a body shows."""
    workflow = Flow("postgresql://h/d").workflow(name="body")(body)
    return replay(workflow, journal(*entries, **more), timeout=timeout)


def never(*_: object) -> None:
    """A step that must not run."""
    raise AssertionError("a step was executed")


async def two_steps(ctx) -> int:
    """The body that most journals here are of."""
    return await ctx.step(never) + await ctx.step(never)


def test_a_journal_that_the_code_takes_fits() -> None:
    """At every length the journal of the code itself fits, and says how the run stands."""
    assert played(two_steps).reason == "after the whole journal it waits for step 'never'"
    assert played(two_steps, entry("1", "never")).verdict == "fits"
    done = played(two_steps, entry("1", "never"), entry("2", "never"))
    assert (done.verdict, done.reason) == ("fits", "after the whole journal it ends: succeeded")


def test_another_step_is_named_on_both_sides() -> None:
    """A renamed step diverges at its key, with what is recorded and what is asked for."""
    found = played(two_steps, entry("1", "never"), entry("2", "charge"))
    assert (found.verdict, found.key) == ("diverges", "2")
    assert (found.recorded, found.requested) == ("step 'charge'", "step 'never'")
    assert str(found) == (
        f"run {RUN} of body@1 diverges: the journal holds step 'charge' at 2, "
        "the code asks for step 'never'"
    )


def test_another_kind_of_wait_diverges() -> None:
    """A step where the journal holds a signal is another thing, whatever it is called."""
    found = played(two_steps, entry("1", "never", kind="signal"))
    assert (found.recorded, found.requested) == ("signal 'never'", "step 'never'")


def test_a_removed_step_diverges() -> None:
    """Code that waits for less than the journal holds doesn't ask for what comes next."""

    async def waits(ctx) -> None:
        await ctx.step(never)
        await asyncio.Event().wait()

    found = played(waits, entry("1", "never"), entry("2", "never"))
    assert (found.verdict, found.key, found.requested) == ("diverges", "2", None)


def test_code_that_ends_early_diverges() -> None:
    """A body that ends while the journal goes on diverges at the first entry left."""

    async def short(ctx) -> None:
        await ctx.step(never)

    found = played(short, entry("1", "never"), entry("2", "never"))
    assert (found.verdict, found.key) == ("diverges", "2")
    assert "the code ends (succeeded) and doesn't ask for it" in found.reason

    async def fails(ctx) -> None:
        await ctx.step(never)
        raise LookupError("what?")

    found = played(fails, entry("1", "never"), entry("2", "never"))
    assert found.verdict == "diverges"
    assert "LookupError: what?" in found.reason


def test_a_race_that_is_decided_may_leave_the_loser_behind() -> None:
    """A completion that was asked for, but came after the body's end, is no divergence."""

    async def race(ctx) -> None:
        await asyncio.wait(
            [asyncio.ensure_future(ctx.step(never)) for _ in range(2)],
            return_when=asyncio.FIRST_COMPLETED,
        )

    found = played(race, entry("2.1", "never", seq=1), entry("1.1", "never", seq=2))
    assert found.verdict == "fits"


def test_the_order_of_branches_is_that_of_the_journal() -> None:
    """Branches that finished in any order fit; their keys don't depend on it."""

    async def both(ctx) -> int:
        first, second = await asyncio.gather(ctx.step(never), ctx.step(never))
        return first * 10 + second

    entries = [entry("2.1", "never", "2", seq=1), entry("1.1", "never", "1", seq=2)]
    assert played(both, *entries, status="succeeded", output="12").verdict == "fits"
    found = played(both, *entries, status="succeeded", output="21")
    assert (found.verdict, found.key) == ("diverges", "end")
    assert "the run ended as succeeded 21, the code ends as succeeded 12" in found.reason


def test_a_noted_attempt_belongs_to_its_step() -> None:
    """The failed attempt of a step that is now another one diverges, its own fits."""
    note = '{"error": {}, "resume_at": 1, "first_started": 1}'
    mine = entry("1#1", "never", note, kind="attempt", failed=True)
    assert played(two_steps, mine).verdict == "fits"
    found = played(two_steps, replace(mine, name="charge"))
    assert (found.verdict, found.recorded) == ("diverges", "attempt 'charge'")
    assert found.requested == "step 'never'"


def test_a_finished_run_must_end_as_it_did() -> None:
    """Stored journals of runs that ended hold the code to status and output."""
    whole = [entry("1", "never"), entry("2", "never")]
    assert played(two_steps, *whole, status="succeeded", output="2").verdict == "fits"
    assert played(two_steps, *whole, status="failed").verdict == "diverges"
    unfinished = played(two_steps, whole[0], status="succeeded", output="2")
    assert (unfinished.verdict, unfinished.requested) == ("diverges", "step 'never'")
    failed = replace(whole[0], failed=True, value='{"type": "x.Y", "message": "no"}')
    assert played(two_steps, failed, status="failed").verdict == "fits"
    assert played(two_steps, failed).verdict == "unsure"


def test_an_input_that_no_longer_fits_diverges() -> None:
    """A run whose input the new annotation refuses would halt."""

    async def typed(ctx, number: int) -> None:
        await ctx.sleep(1)

    assert played(typed, input="5").verdict == "fits"
    found = played(typed, input='"five"')
    assert (found.verdict, found.key, found.recorded) == ("diverges", "input", '"five"')


def test_a_cancellation_is_replayed() -> None:
    """A recorded cancellation is delivered; the run ends as cancelled."""

    async def sleeps(ctx) -> None:
        await ctx.sleep(60)

    value = '{"kind": "cancel", "reason": null, "error": {"type": "x", "message": "y"}}'
    cancel = entry("1", "cancel", value, kind="cancel")
    assert played(sleeps, replace(cancel, key="!cancel"), status="cancelled").verdict == "fits"


def test_a_body_that_raises_is_not_told() -> None:
    """An error after the whole journal may be the bug of today or the run's fate: it is named."""

    async def broken(ctx) -> None:
        await ctx.step(never)
        raise KeyError("gone")

    found = played(broken, entry("1", "never"))
    assert found.verdict == "unsure"
    assert "KeyError: 'gone'" in found.reason


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_body_that_loops_for_ever_is_stopped(stubborn: bool) -> None:
    """Its time limit ends it, also when it catches whatever is raised in it once."""

    async def loops(ctx) -> None:
        try:
            while True:
                pass
        except BaseException:
            while stubborn:
                pass
            raise

    found = played(loops, timeout=0.05)
    assert found.verdict == "unsure"
    assert "ran longer than 0.05 s" in found.reason
    assert not [t for t in threading.enumerate() if t.name == "flow replay"]


def test_a_body_that_blocks_is_left_behind() -> None:
    """A call that can't be interrupted is reported all the same; its thread dies by itself."""

    async def blocks(ctx) -> None:
        time.sleep(3)

    assert played(blocks, timeout=0.05).verdict == "unsure"
    for thread in threading.enumerate():
        if thread.name == "flow replay":
            thread.join(10)


def test_bodies_are_closed_and_steps_never_run() -> None:
    """The body's finally runs, and can't do anything durable; no step of any kind is executed."""
    closed = []
    flow = Flow("postgresql://h/d")

    @flow.step
    async def effect(ctx) -> None:
        never()

    @flow.workflow(name="body")
    async def body(ctx) -> None:
        try:
            await asyncio.gather(effect(ctx), ctx.step(never), ctx.step(lambda: never(ctx)))
        finally:
            closed.append(True)
            await effect(ctx)

    assert replay(body, journal()).verdict == "fits"
    assert closed == [True]


def test_the_same_journal_can_be_replayed_again() -> None:
    """A replay leaves the journal as it was."""
    stored = journal(entry("1", "never"), entry("2", "never"))
    workflow = Flow("postgresql://h/d").workflow(name="body")(two_steps)
    assert replay(workflow, stored) == replay(workflow, stored)


def test_journals_are_stored_as_text(tmp_path) -> None:
    """What is written down is read again just so; anything else is refused with one line."""
    stored = journal(entry("1", "never", '{"b": 1.0, "a": "\\u00e9"}'), status="succeeded")
    assert Journal.from_json(stored.to_json()) == stored
    for text in ("", "[]", "{}", '{"format": 2}', stored.to_json().replace("seq", "sequence")):
        with pytest.raises(ManifestError, match="this is no stored journal"):
            Journal.from_json(text)
    path = tmp_path / "run.json"
    path.write_text(journal(entry("1", "never")).to_json())
    flow = Flow("postgresql://h/d")
    flow.workflow(name="body")(two_steps)
    assert Replayer(flow.workflows).replay_file(path).verdict == "fits"


def test_a_version_that_is_not_here_is_not_told() -> None:
    """Runs of a version that the code no longer has wait for a worker that has it."""
    flow = Flow("postgresql://h/d")
    flow.workflow(name="body", version=2)(two_steps)
    found = Replayer(flow.workflows).replay(journal())
    assert found.verdict == "unsure"
    assert "isn't registered here" in found.reason


def test_compensations_are_not_executed() -> None:
    """A body that fails in a replay has its compensations asked for, and none is run."""

    async def saga(ctx) -> None:
        ctx.on_rollback(never)
        await ctx.step(never)
        raise LookupError("too late")

    found = played(saga, entry("1", "never"))
    assert found.verdict == "unsure"
    assert "LookupError: too late" in found.reason
