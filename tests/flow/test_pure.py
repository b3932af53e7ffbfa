# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The pure parts: replay, transitions, retries, codec, errors."""

import builtins
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import forktex_core.flow as package
from forktex_core.flow import IllegalTransitionError, NonDeterminismError, Retry, StepFailed
from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.errors import PayloadError, record_error
from forktex_core.flow.replay import Entry, Replay
from forktex_core.flow.transitions import FINISHED, LEGAL, next_status

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)  # fmt: skip


def entry(key: str, seq: int, name: str = "s", kind: str = "step") -> Entry:
    return Entry(key, seq, kind, name, False, "null", 1, 1, 0.0, float(seq))


@given(st.permutations(range(8)))
def test_replay_delivers_in_journal_order(order: list[int]) -> None:
    """Whatever the order of requests, deliveries follow the sequence numbers, and stop before what
    wasn't asked for.
    """
    replay = Replay(entry(str(n), n) for n in range(8))
    asked: set[int] = set()
    delivered = 0
    for n in order:
        assert replay.request(str(n), "step", "s") is not None
        asked.add(n)
        while delivered in asked:
            got = replay.deliver()
            assert got is not None
            assert got.seq == delivered
            delivered += 1
    assert replay.deliver() is None
    assert replay.request("99", "step", "s") is None


def test_replay_names_what_differs() -> None:
    """Another name, another kind and a call that is gone are each a mismatch naming both sides."""
    replay = Replay([entry("1", 1, "pay"), entry("2", 2, "ship")])
    with pytest.raises(
        NonDeterminismError, match="holds step 'pay' at 1, the code asks for step 'refund'"
    ):
        replay.request("1", "step", "refund")
    with pytest.raises(NonDeterminismError, match="asks for timer 'ship'"):
        replay.request("2", "timer", "ship")
    with pytest.raises(NonDeterminismError, match="no longer asks for"):
        Replay([entry("1", 1)]).deliver()


def test_attempts_complete_nothing() -> None:
    """Notes about attempts are found by their step, the last one, and are never delivered."""
    replay = Replay([entry("1#1", 1, kind="attempt"), entry("1#2", 2, kind="attempt")])
    assert replay.deliver() is None
    last = replay.last_attempt("1")
    assert last is not None
    assert last.seq == 2


def test_transitions_are_total_and_finished_is_final() -> None:
    """Every pair is either legal or refused by name; nothing leaves success."""
    for before in LEGAL:
        for after in LEGAL:
            if after in LEGAL[before]:
                assert next_status(before, after) == after
            else:
                with pytest.raises(
                    IllegalTransitionError, match=f"a {before} run can't become {after}"
                ):
                    next_status(before, after)
    assert not LEGAL["succeeded"]
    assert set(LEGAL) > FINISHED


async def test_the_database_holds_the_same_table(flow: package.Flow, sql) -> None:
    """Every change of status that transitions.py refuses, the database refuses as well, and no
    other.
    """
    async with flow:
        pass
    shape = {
        "pending": "due_at = now(), worker_id = NULL, finished_at = NULL",
        "running": "due_at = NULL, worker_id = 1, finished_at = NULL",
        "waiting": "due_at = NULL, worker_id = NULL, finished_at = NULL",
        "paused": "due_at = NULL, worker_id = NULL, finished_at = NULL",
    }
    for before in LEGAL:
        for after in LEGAL:
            if before == after:
                continue
            await sql.execute("DELETE FROM run")
            await sql.execute(
                "INSERT INTO run (id, workflow, version, lane, queue, priority, "
                "status, due_at, worker_id, finished_at)"
                " SELECT gen_random_uuid(), 'w', 1, 'w@1', 'q', 0, s, CASE WHEN s = "
                "'pending' THEN now() END,"
                " CASE WHEN s = 'running' THEN 1 END, CASE WHEN s IN ('succeeded', "
                "'failed', 'cancelled') THEN now() END"
                " FROM (SELECT $1::text AS s) x", before)  # fmt: skip
            change = f"UPDATE run SET status = '{after}', " + shape.get(
                after, "due_at = NULL, worker_id = NULL, finished_at = now()"
            )
            if after in LEGAL[before]:
                assert await sql.execute(change) == "UPDATE 1"
            else:
                with pytest.raises(Exception, match="cannot go from"):
                    await sql.execute(change)


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(1, 10))
def test_retry_delays_stay_within_bounds(attempt: int, jitter: float, backoff: float) -> None:
    """A delay never exceeds max_interval and never goes below its jittered share."""
    policy = Retry(max_attempts=None, initial=0.5, backoff=backoff, max_interval=30, jitter=jitter)
    delay = policy.delay(attempt, random.Random(attempt))
    assert 0.5 * (1 - jitter) - 1e-9 <= delay <= 30


def test_retry_decides_by_type() -> None:
    """give_up_on wins over retry_on; a predicate may decide; the last attempt is the last."""
    policy = Retry(max_attempts=3, retry_on=(OSError,), give_up_on=ConnectionRefusedError)
    assert policy.allows(1, TimeoutError())
    assert not policy.allows(1, ConnectionRefusedError())
    assert not policy.allows(1, ValueError())
    assert not policy.allows(3, TimeoutError())
    assert Retry(retry_on=lambda e: "again" in str(e)).allows(1, ValueError("again"))


@given(json_values)
def test_plain_json_survives(value: object) -> None:
    """Any JSON value comes back equal."""
    assert ANY.decode(ANY.encode(value, "it", 1 << 30), "it") == value


@given(
    st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
)
def test_annotated_values_survive(value: object) -> None:
    """Bytes, decimals, UUIDs, times and durations come back equal by their annotation."""
    shape = Shape(type(value))
    assert shape.decode(shape.encode(value, "it", 1 << 30), "it") == value


_ARGUMENTS = {
    "UnicodeEncodeError": ("utf-8", "x", 0, 1, "bad"),
    "UnicodeDecodeError": ("utf-8", b"x", 0, 1, "bad"),
    "UnicodeTranslateError": ("x", 0, 1, "bad"),
    "SyntaxError": ("a",),
    "IndentationError": ("a",),
    "TabError": ("a",),
    "_IncompleteInputError": ("a",),
    "ExceptionGroup": ("several", [ValueError("one")]),
}


@pytest.mark.parametrize(
    "name",
    [n for n, t in vars(builtins).items() if isinstance(t, type) and issubclass(t, Exception)],
)
def test_every_builtin_error_is_recorded_and_restored(name: str) -> None:
    """Whatever type a step raises, StepFailed carries its name and text, and is of that type where
    it can be.
    """
    original = getattr(builtins, name)
    error = original(*_ARGUMENTS.get(name, ("a", 1)))
    record = record_error(error)
    restored = StepFailed.restored(record)
    assert restored.type_name == f"builtins.{original.__qualname__}"
    assert isinstance(restored.message, str)
    assert isinstance(pickle.loads(pickle.dumps(restored)), StepFailed)
    if name in ("ValueError", "KeyError", "OSError", "TimeoutError", "RuntimeError"):
        assert isinstance(restored, original)


def test_public_surface() -> None:
    """What the package offers is listed, documented and there."""
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    for name in package.__all__:
        assert getattr(package, name).__doc__, name


@given(st.one_of(st.integers(), texts, st.booleans()))
def test_scalars_travel_as_pydantic_would_have_them(value: object) -> None:
    """The short way for int, str and bool gives what pydantic reads back as the same value."""
    shape = Shape(type(value))
    back = shape.decode(shape.encode(value, "x", 1 << 20), "x")
    assert back == value
    assert type(back) is type(value)


def test_a_subclass_takes_no_short_way() -> None:
    """A bool is no int here, and what the annotation doesn't promise is refused."""
    with pytest.raises(PayloadError, match="x is 'str', not what int promises"):
        Shape(int).encode("5", "x", 100)
    assert Shape(int).encode(True, "x", 100) in ("true", "1")
