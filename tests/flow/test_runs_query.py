# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``flow.runs``: what a query finds, page by page, against a plain look at all rows."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from forktex_core.flow import Condition, Flow, FlowNotOpenError, QueryError, RunNotFoundError

START = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("pending", "running", "waiting", "paused", "succeeded", "failed", "cancelled")
ENDED = STATUSES[4:]


def made_up(rng: random.Random, number: int, parents: list[UUID]) -> tuple:
    """A row of a run whose every property is drawn; times are coarse, so that many are equal."""
    status = rng.choice(STATUSES)
    created = START + timedelta(minutes=rng.randrange(30))
    started = created + timedelta(minutes=rng.randrange(5))
    finished = started + timedelta(minutes=rng.randrange(20)) if status in ENDED else None
    parent = rng.choice(parents) if parents and rng.random() < 0.3 else None
    error = None
    if status in ("failed", "cancelled"):
        error = f'{{"type": "builtins.ValueError", "message": "No. {rng.randrange(4)} is bad"}}'
    return (
        uuid4(), rng.choice(("order", "ship", "bill")), rng.randrange(1, 3),
        rng.choice(("default", "slow")), rng.choice((None, "ada", "bob")), status,
        created if status == "pending" else None, 1 if status == "running" else None, error,
        f'{{"tenant": {rng.randrange(3)}, "tags": ["a"]}}' if rng.random() < 0.5 else "{}",
        parent, None if parent is None else f"k{number}", created, started, finished,
    )  # fmt: skip


INSERT = """
    INSERT INTO run (id, workflow, version, lane, queue, key, priority, status, due_at, worker_id,
                     error, metadata, parent_id, parent_key, created_at, started_at, finished_at)
    VALUES ($1, $2, $3::integer, $2 || '@' || $3::integer, $4, $5, 0, $6, $7, $8, $9::text::json,
            $10::text::jsonb, $11, $12, $13, $14, $15)"""


@pytest.fixture
async def crowd(flow: Flow, sql) -> list:
    """300 runs of all sorts in an open Flow."""
    await flow.open()
    rng = random.Random(7)
    parents: list[UUID] = []
    for number in range(300):
        row = made_up(rng, number, parents)
        parents.append(row[0])
        await sql.execute(INSERT, *row)
    return await sql.fetch(
        "SELECT *, metadata->>'tenant' AS tenant, error->>'message' AS said FROM run"
    )


def ordered(rows: list, order: str) -> list[UUID]:
    """The ids of rows in an order, by a plain sort."""
    by = order.removeprefix("-") + "_at"
    rows = [row for row in rows if row[by] is not None]
    rows.sort(key=lambda row: (row[by], row["id"]), reverse=order.startswith("-"))
    return [row["id"] for row in rows]


def at(minutes: int) -> datetime:
    """A moment of the made-up runs."""
    return START + timedelta(minutes=minutes)


CASES = [
    ({}, lambda r: True),
    ({"status": "failed"}, lambda r: r["status"] == "failed"),
    ({"status": ["running", "paused"]}, lambda r: r["status"] in ("running", "paused")),
    ({"workflow": "ship"}, lambda r: r["workflow"] == "ship"),
    (
        {"workflow": ["ship", "bill"], "queue": "slow"},
        lambda r: r["workflow"] != "order" and r["queue"] == "slow",
    ),
    (
        {"version": 2, "workflow": "bill"},
        lambda r: r["version"] == 2 and r["workflow"] == "bill",
    ),
    (
        {"key": "ada", "status": "succeeded"},
        lambda r: r["key"] == "ada" and r["status"] == "succeeded",
    ),
    ({"queue": "nowhere"}, lambda r: False),
    ({"metadata": {"tenant": 1}}, lambda r: r["tenant"] == "1"),
    (
        {"metadata": {"tags": ["a"]}, "status": "failed"},
        lambda r: r["tenant"] and r["status"] == "failed",
    ),
    ({"roots": True}, lambda r: r["parent_id"] is None),
    ({"error_contains": "no. 3 IS"}, lambda r: r["said"] == "No. 3 is bad"),
    ({"error_contains": "valueerror: no"}, lambda r: r["said"] is not None),
    ({"worker": 1}, lambda r: r["status"] == "running"),
    ({"created_since": at(10)}, lambda r: r["created_at"] >= at(10)),
    ({"created_until": at(10)}, lambda r: r["created_at"] < at(10)),
    (
        {"started_since": at(9), "started_until": at(20)},
        lambda r: at(9) <= r["started_at"] < at(20),
    ),
    (
        {"finished_since": at(20), "finished_until": at(30)},
        lambda r: r["finished_at"] is not None and at(20) <= r["finished_at"] < at(30),
    ),
]


@pytest.mark.parametrize("order", ["-created", "created", "-finished", "finished"])
async def test_a_query_finds_what_a_plain_look_finds(flow: Flow, crowd, order) -> None:
    """Every condition, in every order, gives the rows that a sort and a filter of all rows give:
    cut into pages of any size, as an iteration, as a count and as a summary.
    """
    for conditions, fits in CASES:
        wanted = [row for row in crowd if fits(row)]
        query = flow.runs.where(**conditions).order_by(order)
        expected = ordered(list(wanted), order)
        for size in (7, 100):
            found, after = [], None
            while True:
                page = await query.page(size, after=after)
                found += [run.id for run in page.runs]
                after = page.next
                assert len(page.runs) == size or after is None
                if after is None:
                    break
            assert found == expected, conditions
        assert [run.id async for run in query] == expected
        assert await query.count() == len(wanted)
        summary = await query.summary()
        assert summary.total == len(wanted)
        assert summary.by_status == Counter(row["status"] for row in wanted)
        assert summary.by_workflow == Counter(row["workflow"] for row in wanted)
        assert summary.by_queue == Counter(row["queue"] for row in wanted)


async def test_conditions_add_up(flow: Flow, crowd) -> None:
    """A query is a value: where() leaves the former one alone, and only narrows."""
    failed = flow.runs.where(status=["failed", "cancelled"])
    both = failed.where(status="failed").where(workflow="ship")
    nothing = both.where(status="cancelled")
    assert await failed.count() == sum(r["status"] in ("failed", "cancelled") for r in crowd)
    assert {(r.status, r.workflow) async for r in both} == {("failed", "ship")}
    assert (await nothing.page()).runs == []
    assert (await nothing.count(), (await nothing.summary()).total) == (0, 0)
    assert await flow.runs.where(error_contains="bad", status="succeeded").count() == 0
    assert await flow.runs.count(at_most=17) == 17
    assert await nothing.first() is None
    parent = next(row["parent_id"] for row in crowd if row["parent_id"])
    children = [r["id"] for r in crowd if r["parent_id"] == parent]
    assert {r.id async for r in flow.runs.where(parent=str(parent))} == set(children)
    assert await flow.runs.where(metadata={"tenant": 1}).where(metadata={"tenant": 2}).count() == 0


async def test_a_row_shows_what_the_table_holds(flow: Flow, sql) -> None:
    """Every field of a listed run, and its payloads where one run is asked for."""

    @flow.workflow(name="order")
    async def order(ctx, n: int) -> int:
        return n

    async with flow:
        run_id = await flow.start(
            order, 7, queue="slow", key="ada", priority=3, metadata={"a": [1]}, timeout=60,
            idempotency_key="i", deduplication_key="d",
        )  # fmt: skip
        listed = await flow.runs.where(workflow=order).first()
        run = await flow.runs.get(str(run_id))
    assert listed is not None
    assert (listed.id, listed.workflow, listed.version) == (run_id, "order", 1)
    assert (listed.queue, listed.key, listed.priority, listed.status) == (
        "slow",
        "ada",
        3,
        "pending",
    )
    assert (listed.metadata, listed.idempotency_key, listed.deduplication_key) == (
        {"a": [1]},
        "i",
        "d",
    )
    assert abs(listed.deadline_at - listed.created_at - timedelta(seconds=60)) < timedelta(1)
    assert (run.input, run.output, run.timeout, run.error) == (7, None, 60, None)
    assert not run.halted
    assert run.duration is None


async def test_a_condition_of_an_extension_is_carried_everywhere(flow: Flow, crowd) -> None:
    """What restricted() adds holds for lists, counts, summaries and single runs; its parameters are
    numbered among the others.
    """
    wanted = [
        r for r in crowd if r["tenant"] == "1" and r["queue"] == "slow" and r["status"] == "failed"
    ]
    other = next(r["id"] for r in crowd if r["tenant"] == "2")
    for indexed in (False, True):
        condition = Condition(
            "(r.metadata->>'tenant')::integer = $1 AND $2::text = r.queue", (1, "slow"), indexed
        )
        mine = flow.runs.where(status="failed").restricted(condition)
        assert [r.id async for r in mine] == ordered(list(wanted), "-created")
        assert await mine.count() == len(wanted) == (await mine.summary()).total
        assert (await mine.get(wanted[0]["id"])).id == wanted[0]["id"]
        for ask in (mine.get, mine.timeline, mine.explain):
            with pytest.raises(RunNotFoundError):
                await ask(other)
        with pytest.raises(RunNotFoundError):
            await anext(mine.stream(other))


async def test_columns_that_an_extension_added(flow: Flow, crowd, sql) -> None:
    """They are compared in their own types, and a name that is none of a column is refused."""
    await sql.execute("ALTER TABLE run ADD COLUMN org integer")
    await sql.execute("UPDATE run SET org = 5 WHERE workflow = 'ship'")
    mine = flow.runs.where(columns={"org": 5})
    assert await mine.count() == sum(r["workflow"] == "ship" for r in crowd)
    assert {r.workflow async for r in mine} == {"ship"}
    with pytest.raises(QueryError, match=r"columns: column r\.nope does not exist"):
        await flow.runs.where(columns={"nope": 5}).count()
    with pytest.raises(QueryError, match="a value doesn't fit its column"):
        await flow.runs.where(columns={"org": "many"}).count()
    with pytest.raises(QueryError, match="is no name of a column"):
        flow.runs.where(columns={'org" = 5 OR "org': 5})


async def test_pages_stay_put_while_runs_come_and_go(flow: Flow, crowd, sql) -> None:
    """Runs that are new, and one that changes status, move no run to a second page or past one."""
    first = await flow.runs.page(100)
    rng = random.Random(8)
    for number in range(50):
        *row, _created, started, finished = made_up(rng, number, [])
        await sql.execute(INSERT, *row, START + timedelta(hours=1), started, finished)
    second = await flow.runs.page(200, after=first.next)
    ids = [run.id for run in (*first.runs, *second.runs)]
    assert ids == ordered(list(crowd), "-created")
    assert second.next is None


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"state": "failed"}, "no condition 'state' on runs: there are workflow, version"),
        ({"status": "done"}, "no status 'done': there are pending, running"),
        ({"status": []}, "an empty list fits no run"),
        ({"workflow": 7}, "workflow is str, or several of them, not 7"),
        ({"version": "1"}, "version is int, or several of them, not '1'"),
        ({"version": True}, "version is int"),
        ({"queue": "a\x00b"}, "no text with NUL"),
        ({"key": "\ud800"}, "no text with NUL or surrogates"),
        ({"metadata": [1]}, "metadata is a dict"),
        ({"metadata": {"a": {1}}}, "it takes what JSON has"),
        ({"metadata": {"a": "\x00"}}, "no text with NUL"),
        ({"parent": "x"}, "parent is the id of a run"),
        ({"roots": 1}, "roots is true or false"),
        ({"worker": "w"}, "worker is the number of a worker"),
        ({"worker": 1 << 63}, "worker is the number of a worker"),
        ({"columns": "org"}, "columns is a dict"),
        ({"error_contains": ""}, "error_contains is a text"),
        ({"created_since": datetime(2026, 1, 1)}, "created_since is a datetime with a time zone"),  # noqa: DTZ001
        ({"finished_until": "yesterday"}, "finished_until is a datetime"),
    ],
)
async def test_malformed_filters_are_refused_at_once(flow: Flow, conditions, message) -> None:
    """Where the query is made, with the name of the condition; the database isn't asked."""
    with pytest.raises(QueryError, match=message):
        flow.runs.where(**conditions)


async def test_malformed_pages_and_cursors_are_refused(flow: Flow, crowd) -> None:
    """A cursor that is cut, changed, made up or of another query never gives a wrong page."""
    query = flow.runs.where(status="failed")
    cursor = (await query.page(5)).next
    assert cursor is not None
    for bad in (
        "",
        "x",
        "é",
        cursor[:-3],
        cursor + "A",
        "W10",
        "eyJhIjogMX0",
        "bnVsbA",
        cursor.swapcase(),
    ):
        with pytest.raises(QueryError, match=r"the cursor is malformed|belongs to another query"):
            await query.page(5, after=bad)
    for other in (flow.runs, query.order_by("created"), query.where(queue="slow")):
        with pytest.raises(QueryError, match="belongs to another query"):
            await other.page(5, after=cursor)
    assert (await flow.runs.where(status=["failed"]).page(5, after=cursor)).runs
    for size in (0, -1, 1001, "5", True, 2.0):
        with pytest.raises(QueryError, match="a page has 1 to 1000 runs"):
            await query.page(size)
    with pytest.raises(QueryError, match="no order 'name'"):
        query.order_by("name")
    with pytest.raises(QueryError, match="at_most is 1 or more"):
        await query.count(at_most=0)
    with pytest.raises(RunNotFoundError):
        await flow.runs.get(uuid4())
    with pytest.raises(ValueError, match="a run id is a UUID"):
        await flow.runs.get("x")


async def test_a_query_may_be_made_before_the_flow_is_open(flow: Flow) -> None:
    """Only asking needs the database."""
    query = flow.runs.where(status="failed")
    with pytest.raises(FlowNotOpenError):
        await query.page()
    async with flow:
        assert (await query.page()).runs == []


async def test_errors_that_a_codec_hid_are_not_searched(postgres, schema) -> None:
    """Postgres can't read them: that is said. They are shown decoded."""
    coded = Flow(postgres.url, schema=schema, codec=(lambda t: t[::-1], lambda t: t[::-1]))

    @coded.workflow(name="fails")
    async def fails(ctx, secret: str) -> None:
        raise ValueError(f"no {secret}")

    async with coded:
        worker = asyncio.create_task(coded.run_worker())
        run_id = await coded.start(fails, "salt")
        with pytest.raises(ValueError, match="no salt"):
            await coded.result(run_id, timeout=10)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        with pytest.raises(QueryError, match="payload codec, so Postgres can't read its errors"):
            await coded.runs.where(error_contains="salt").page()
        listed = await coded.runs.first()
        assert str(listed.error) == "builtins.ValueError: no salt"
        assert (await coded.runs.get(run_id)).input == "salt"
    plain = Flow(postgres.url, schema=schema, codec=(str, lambda text: 1 / 0))
    async with plain:
        listed = await plain.runs.first()
        assert listed.error.type == "unreadable"
        assert "codec" in (await plain.runs.get(run_id)).unreadable
