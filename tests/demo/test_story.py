# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The demo's story: told in the order in which things happened, whatever the clocks say."""

from datetime import UTC, datetime

import pytest

from examples.deploy import witness
from examples.deploy.state import Record, State, Worker
from examples.deploy.story import Story

BEGAN = 1_000_000.0
ADA = Worker(
    id=1,
    name="Ada",
    pid=7,
    started_at=datetime.fromtimestamp(BEGAN - 1, UTC),
    ended_at=None,
    end_reason=None,
    elected_at=None,
)


def record(step: str, at: float) -> Record:
    return Record(name=step, worker="Ada", at=datetime.fromtimestamp(BEGAN + at, UTC))


def begun(step: str, pid: int, at: float) -> witness.Testimony:
    return witness.Testimony(step=step, pid=pid, at=BEGAN + at)


@pytest.mark.parametrize("late", [-0.5, 0.0, 0.5])
def test_a_step_is_recorded_between_its_begin_and_the_next(late: float) -> None:
    """The database's clock may be off: a line still stands where it belongs."""
    story = Story(steps=("pack", "check"))
    testimonies = [
        witness.Testimony(step=s, pid=7, at=BEGAN + at) for s, at in (("pack", 1), ("check", 2))
    ]
    records = [record("pack", 1.5 + 2 * late), record("check", 2.25 + late)]
    story.update(State(workers=[ADA], records=records), testimonies)
    assert [event.what for event in story.events] == [
        "is at work (process 7)",
        "step pack",
        "step pack recorded",
        "step check",
        "step check recorded",
    ]


def test_a_step_that_is_taken_over_is_recorded_after_its_second_begin() -> None:
    """The record is the second execution's: it doesn't move before the takeover."""
    story = Story(steps=("pack",), killed="Ada", killed_at=BEGAN + 1.5)
    testimonies = [
        witness.Testimony(step="pack", pid=pid, at=BEGAN + at) for pid, at in ((7, 1), (8, 3))
    ]
    story.update(State(workers=[ADA], records=[record("pack", 2.9)]), testimonies)
    assert [event.what for event in story.events][1:] == [
        "step pack",
        "takes over: step pack again",
        "step pack recorded",
    ]
