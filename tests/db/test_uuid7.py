# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`uuid7`: the layout of RFC 9562, and ids that always ascend."""

import threading
import time
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.db import uuid7
from forktex_core.db.uuid7 import UUID7Source, compose

MILLISECONDS = st.integers(0, 2**48 - 2)


def milliseconds_of(made: UUID) -> int:
    return made.int >> 80


@given(milliseconds=MILLISECONDS, random=st.integers(0, 2**74 - 1))
def test_the_layout_is_that_of_the_rfc(milliseconds: int, random: int) -> None:
    """Version and variant are where they belong, the time before them, all random bits kept."""
    made = compose(milliseconds, random)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert milliseconds_of(made) == milliseconds
    assert (made.int >> 64 & 0xFFF) << 62 | made.int & (1 << 62) - 1 == random


def test_the_example_of_the_rfc() -> None:
    """The test vector of appendix A.6, from its fields."""
    random = 0xCC3 << 62 | 0x18C4DC0C0C07398F
    assert compose(0x017F22E279B0, random) == UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


@given(clock=st.lists(MILLISECONDS, min_size=2, max_size=50))
def test_ids_ascend_whatever_the_clock_does(clock: list[int]) -> None:
    """Each id is greater than the one before: also when the clock stands still or goes back."""
    source = UUID7Source()
    made = [source.next(milliseconds) for milliseconds in clock]
    assert all(one < other for one, other in pairwise(made))
    assert milliseconds_of(made[0]) == clock[0]


def test_ids_ascend_when_the_random_bits_run_out() -> None:
    """After the last random value of a millisecond comes the next millisecond."""
    source = UUID7Source()
    first = source.next(1000)
    source._random = 2**74 - 1
    after = source.next(1000)
    assert milliseconds_of(after) == 1001
    assert first < after < source.next(1000) < source.next(1002)


def test_a_millisecond_holds_more_ids_than_anybody_makes() -> None:
    """A burst in one millisecond stays in it: the time in the ids doesn't run ahead."""
    source = UUID7Source()
    made = [source.next(1000) for _ in range(10_000)]
    assert {milliseconds_of(each) for each in made} == {1000}
    assert made == sorted(set(made))


def test_the_time_is_the_clocks() -> None:
    """The first 48 bits are Unix milliseconds (other tests of this process may be a bit ahead)."""
    before = time.time_ns() // 1_000_000
    assert before <= milliseconds_of(uuid7()) <= time.time_ns() // 1_000_000 + 1


def test_threads_share_the_order() -> None:
    """No id comes twice, and each thread sees its own ascend."""
    made: list[list[UUID]] = [[] for _ in range(4)]

    def make(mine: list[UUID]) -> None:
        mine.extend(uuid7() for _ in range(2000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len(set().union(*made)) == 8000


def test_two_sources_part() -> None:
    """Two processes with the same clock make different ids."""
    one, other = UUID7Source(), UUID7Source()
    assert not {one.next(1000) for _ in range(100)} & {other.next(1000) for _ in range(100)}


@pytest.mark.parametrize("random", [-1, 2**74])
def test_a_number_that_does_not_fit_is_refused(random: int) -> None:
    """What has no place in the layout would spoil version or time: it is an error."""
    with pytest.raises(ValueError, match="74 bits"):
        compose(1000, random)
    with pytest.raises(ValueError, match="48 bits"):
        compose(-1, uuid4().int % 2**74)
