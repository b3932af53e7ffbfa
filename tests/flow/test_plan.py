# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""When schedules fire: pure, with the time given."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.flow.plan import Plan, delayed, due, scheduled_run_id

BUCHAREST, NEW_YORK = "Europe/Bucharest", "America/New_York"
MINUTE = timedelta(minutes=1)


def local_times(zone: str, cron: str, day: tuple[int, int, int], count: int) -> list[str]:
    """The first times from midnight of a day on, as clocks on the wall show them."""
    start = datetime(*day, tzinfo=ZoneInfo(zone)) - timedelta(seconds=1)
    times = islice(Plan(cron=(cron,), timezone=zone).times(start.astimezone(UTC)), count)
    return [t.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %Z") for t in times]


@pytest.mark.parametrize(
    ("zone", "cron", "day", "expected"),
    [
        # Clocks go from 03:00 to 04:00 on 2026-03-29 in Bucharest, from 04:00 back on 2026-10-25.
        (
            BUCHAREST,
            "30 3 * * *",
            (2026, 3, 28),
            ["28 03:30 EET", "29 04:00 EEST", "30 03:30 EEST"],
        ),
        (
            BUCHAREST,
            "30 3 * * *",
            (2026, 10, 24),
            ["24 03:30 EEST", "25 03:30 EEST", "26 03:30 EET"],
        ),
        (
            BUCHAREST,
            "0 * * * *",
            (2026, 3, 29),
            ["29 00:00 EET", "29 01:00 EET", "29 02:00 EET", "29 04:00 EEST"],
        ),
        (BUCHAREST, "0 9 * * *", (2026, 10, 24), ["24 09:00 EEST", "25 09:00 EET"]),
        # And from 02:00 to 03:00 on 2026-03-08 in New York, from 02:00 back on 2026-11-01.
        (NEW_YORK, "30 2 * * *", (2026, 3, 7), ["07 02:30 EST", "08 03:00 EDT", "09 02:30 EDT"]),
        (NEW_YORK, "30 1 * * *", (2026, 10, 31), ["31 01:30 EDT", "01 01:30 EDT", "02 01:30 EST"]),
        (
            NEW_YORK,
            "0 * * * *",
            (2026, 11, 1),
            ["01 00:00 EDT", "01 01:00 EDT", "01 01:00 EST", "01 02:00 EST"],
        ),
        (NEW_YORK, "0 9 * * 1-5", (2026, 3, 6), ["06 09:00 EST", "09 09:00 EDT"]),
    ],
)
def test_daylight_saving(zone: str, cron: str, day, expected: list[str]) -> None:
    """A time that is skipped fires right after the gap, one that is repeated fires once, and what
    runs every hour goes by real time.
    """
    assert local_times(zone, cron, day, len(expected)) == expected


MOMENTS = st.integers(0, 63_000_000).map(
    lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)
CRONS = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "15 3 * * 0", "5 4 29 2 *"]
)


@given(CRONS, st.sampled_from([BUCHAREST, NEW_YORK, "UTC", "Australia/Lord_Howe"]), MOMENTS)
def test_times_only_grow_and_depend_on_no_start(cron: str, zone: str, start: datetime) -> None:
    """Each time is later than the one before; and whoever asks from any moment between two times
    hears the same next one.
    """
    plan = Plan(cron=(cron,), timezone=zone)
    times = list(islice(plan.times(start), 4))
    assert all(a < b for a, b in zip([start, *times], times, strict=False))
    for before, after in pairwise(times):
        assert plan.after(before) == after
        assert plan.after(after - timedelta(seconds=1)) == after


@given(MOMENTS, st.integers(1, 10_000))
def test_intervals_go_from_the_epoch(start: datetime, every: int) -> None:
    """The next time is the next multiple of the interval, strictly later."""
    after = Plan(every=every).after(start)
    assert after is not None
    assert after > start
    assert after - start <= timedelta(seconds=every)
    assert after.timestamp() % every == 0


def test_several_expressions_and_moments() -> None:
    """Their times are merged, each once."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    plan = Plan(cron=("0 8 * * *", "0 8,12 * * *"))
    assert [t.hour for t in islice(plan.times(start), 3)] == [8, 12, 8]
    later, sooner = start + 5 * MINUTE, start + 2 * MINUTE
    assert list(Plan(at=(later, sooner, later)).times(start)) == [sooner, later]
    assert Plan(at=(sooner,)).after(sooner) is None
    assert Plan.load(plan.dump()) == plan


@given(MOMENTS, st.integers(0, 300), st.integers(0, 200))
def test_missed_times(next_at: datetime, minutes: int, catch_up: int) -> None:
    """What is at most catch_up late fires, what is older is counted, and the next time is the first
    that is neither: nothing is forgotten, nothing comes twice.
    """
    next_at = next_at.replace(second=0, microsecond=0)
    now = next_at + minutes * MINUTE
    found = due(Plan(cron=("* * * * *",)), next_at, now, catch_up * MINUTE)
    times = [next_at + n * MINUTE for n in range(minutes + 1)]
    fit = [t for t in times if now - t <= max(catch_up * MINUTE, timedelta(seconds=10))]
    assert found.fire == fit[:100]
    assert found.skipped == len(times) - len(fit)
    rest = [*fit[100:], now + MINUTE]
    assert found.next_at == rest[0]


def test_ids_and_jitter_are_the_same_for_all() -> None:
    """They depend on the schedule's name and the time alone."""
    time = datetime(2026, 5, 1, 12, tzinfo=UTC)
    here = time.astimezone(ZoneInfo(BUCHAREST))
    assert scheduled_run_id("a", time) == scheduled_run_id("a", here)
    ids = {scheduled_run_id(name, time + n * MINUTE) for name in "ab" for n in range(50)}
    assert len(ids) == 100
    assert {i.version for i in ids} == {7}
    assert scheduled_run_id("a", time) < scheduled_run_id("a", time + MINUTE)
    spread = {delayed("a", time + n * MINUTE, MINUTE) - time - n * MINUTE for n in range(50)}
    assert len(spread) == 50
    assert all(timedelta() <= s < MINUTE for s in spread)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, "exactly one"),
        ({"cron": ("* * * * *",), "every": 5}, "exactly one"),
        ({"cron": ("61 * * * *",)}, "no cron expression"),
        ({"every": 0.5}, "at least one second"),
        ({"at": (datetime(2026, 1, 1),)}, "time zone"),  # noqa: DTZ001 - what is refused
        ({"every": 5, "timezone": "Mars/Olympus"}, "IANA"),
    ],
)
def test_plans_that_are_none(plan, message: str) -> None:
    """Each is refused with what is wrong."""
    with pytest.raises(ValueError, match=message):
        Plan(**plan)
