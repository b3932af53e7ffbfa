# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Values on their way through the database: by their annotations, and through a payload codec."""

import base64
import json
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter

from forktex_core.flow import Flow, PayloadError, RunFailed, RunHalted
from forktex_core.vault import Vault
from tests.waiting import eventually

BYTES = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    article: UUID
    price: Decimal
    colour: Colour


class Order(BaseModel):
    model_config = BYTES

    number: int
    lines: list[Line]
    placed: datetime
    due: date
    within: timedelta
    seal: bytes
    note: str | None = None


ORDER = Order(
    number=7,
    lines=[
        Line(UUID(int=1), Decimal("19.90"), Colour.RED),
        Line(UUID(int=2), Decimal(1), Colour.BLUE),
    ],
    placed=datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC),
    due=date(2026, 2, 1),
    within=timedelta(days=1, seconds=3),
    seal=bytes(range(256)),
)


@pytest.mark.parametrize(
    "value",
    [
        ORDER,
        ORDER.lines[0],
        Decimal("0.10"),
        UUID(int=5),
        b"\x00\xff",
        Colour.BLUE,
        datetime(2026, 3, 29, tzinfo=UTC),
        {"a": [ORDER]},
        (1, "a"),
        {1, 2},
    ],
)
async def test_annotated_values_come_back_as_they_were(flow: Flow, serving, value) -> None:
    """Input, result, signal and output are restored in their types, in a body and outside."""
    kind = {dict: dict[str, list[Order]], tuple: tuple[int, str], set: set[int]}.get(
        type(value), type(value)
    )
    seen: list[object] = []

    async def same(ctx, given: object) -> object:
        return given

    same.__annotations__["return"] = kind

    step = flow.step(same)

    async def body(ctx, given):
        seen.append(given)
        seen.append(await step(ctx, given))
        seen.append(await ctx.wait_signal("value", list[kind]))
        return given

    body.__annotations__.update({"given": kind, "return": kind})
    flow.workflow(name="same")(body)
    async with serving(flow):
        run_id = await flow.start("same", value)
        sent = json.loads(TypeAdapter(list[kind], config=BYTES).dump_json([value]))
        await flow.send_signal(run_id, "value", sent)
        output = await flow.result(run_id, timeout=10)
    seen[-1:] = seen[-1]
    assert [output, *seen] == [value] * 4
    assert {type(v) for v in (output, *seen)} == {type(value)}


async def test_an_input_is_validated_when_a_run_is_started(flow: Flow) -> None:
    """A caller learns at once what doesn't fit, and where."""

    @flow.workflow(name="typed")
    async def typed(ctx, order: Order) -> None: ...

    async with flow:
        with pytest.raises(PayloadError, match=r"input of 'typed' doesn't fit Order.*number"):
            await flow.start("typed", {"number": "x"})


SECRET = "top secret word"


def packed(text: str) -> str:
    return base64.b85encode(zlib.compress(text.encode())).decode()


def unpacked(text: str) -> str:
    return zlib.decompress(base64.b85decode(text)).decode()


def vault_codec(vault: Vault):
    return vault.encrypt, vault.decrypt


CODECS = {
    "vault": lambda: vault_codec(Vault.from_key(Vault.generate_key())),
    "zlib": lambda: (packed, unpacked),
}


def tell(flow: Flow) -> None:
    """A workflow through which a secret passes by every way there is."""

    async def whisper(word: str) -> str:
        return word

    async def fail(word: str) -> None:
        raise LookupError(word)

    @flow.workflow(name="tell")
    async def told(ctx, word: str) -> list[str]:
        result = await ctx.step(whisper, word)
        heard = await ctx.wait_signal("word", str)
        _, either = await ctx.wait_any_signal(["word", "other"])
        if heard == "fail":
            await ctx.step(fail, word)
        return [word, result, heard, either]


@pytest.mark.parametrize("name", CODECS)
async def test_a_codec_sees_every_value(postgres, schema, serving, sql, name) -> None:
    """Inputs, results, signals, outputs and errors are stored as the codec makes them and come back
    as they were, also after a replay by another worker; metadata stays readable.
    """
    codec = CODECS[name]()
    flow = Flow(postgres.url, schema=schema, codec=codec)
    tell(flow)
    async with serving(flow):
        good, bad = await flow.start_many("tell", [SECRET] * 2, metadata={"open": SECRET})
        await eventually(
            lambda: sql.fetchval("SELECT count(*) = 2 FROM run WHERE status = 'waiting'")
        )
    again = Flow(postgres.url, schema=schema, codec=codec)
    tell(again)
    async with serving(again):
        for run_id, heard in ((good, SECRET), (bad, "fail")):
            await again.send_signal(run_id, "word", heard)
            await again.send_signal(run_id, "word", SECRET)
        assert await again.result(good, timeout=10) == [SECRET] * 4
        with pytest.raises(RunFailed, match=SECRET):
            await again.result(bad, timeout=10)
        await again.retry(bad)
        with pytest.raises(RunFailed, match=SECRET):
            await again.result(bad, timeout=10)
    stored = []
    for column, table in (
        ("input", "run"),
        ("output", "run"),
        ("error", "run"),
        ("value", "journal"),
        ("payload", "signal"),
    ):
        stored += [
            r[0]
            for r in await sql.fetch(
                f"SELECT {column}::text FROM {table} WHERE {column} IS NOT NULL"
            )
        ]
    assert len(stored) > 10
    assert not [text for text in stored if SECRET in text or "LookupError" in text]
    assert await sql.fetchval("SELECT count(*) FROM run WHERE metadata->>'open' = $1", SECRET) == 2


async def test_the_wrong_key_halts_a_run_and_loses_nothing(postgres, schema, serving, sql) -> None:
    """A worker that can't decode what a run holds stops that run, saying so; with the right key it
    goes on. Nothing spins, and other runs are served.
    """
    codec = CODECS["vault"]()
    right = Flow(postgres.url, schema=schema, codec=codec)
    tell(right)
    async with serving(right):
        run_id = await right.start("tell", SECRET)
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
    wrong = Flow(postgres.url, schema=schema, codec=CODECS["vault"]())
    tell(wrong)
    async with serving(wrong):
        await wrong.send_signal(run_id, "word", "x")
        with pytest.raises(RunHalted, match="codec's decode failed"):
            await wrong.result(run_id, timeout=10)
        await wrong.start("tell", "another")
        await eventually(
            lambda: sql.fetchval("SELECT count(*) = 1 FROM run WHERE status = 'waiting'")
        )
    await sql.execute("DELETE FROM signal")
    again = Flow(postgres.url, schema=schema, codec=codec)
    tell(again)
    async with serving(again):
        await again.resume(run_id)
        await again.send_signal(run_id, "word", "y")
        await again.send_signal(run_id, "other", "z")
        assert await again.result(run_id, timeout=10) == [SECRET, SECRET, "y", "z"]


async def test_a_codec_that_fails(postgres, schema, serving) -> None:
    """At a start it is one clear error; in a worker it fails the step, not the worker."""
    broken = Flow(postgres.url, schema=schema, codec=(lambda text: 5, unpacked))  # type: ignore[arg-type, return-value]
    tell(broken)
    async with broken:
        with pytest.raises(PayloadError, match=r"codec's encode failed.*returned int"):
            await broken.start("tell", SECRET)

    def picky(text: str) -> str:
        if "bad" in text:
            raise OverflowError("too bad")
        return packed(text)

    flow = Flow(postgres.url, schema=schema, codec=(picky, unpacked))

    async def produce(what: str) -> str:
        return "".join(what)

    @flow.workflow(name="produces")
    async def produces(ctx, what: list[str]) -> str:
        return await ctx.step(produce, what)

    async with serving(flow):
        good, bad = await flow.start_many("produces", [["g", "ood"], ["b", "ad"]])
        assert await flow.result(good, timeout=10) == "good"
        with pytest.raises(RunFailed, match=r"could not encode|encode failed"):
            await flow.result(bad, timeout=10)


async def test_values_from_before_a_codec(postgres, schema, serving, sql) -> None:
    """What was written without a codec, and is no bare string, is still read with one."""
    before = Flow(postgres.url, schema=schema)
    after = Flow(postgres.url, schema=schema, codec=(packed, unpacked))
    for flow in (before, after):

        @flow.workflow(name="sum")
        async def total(ctx, numbers: list[int]) -> int:
            return sum(numbers)

    async with before:
        run_id = await before.start("sum", [1, 2])
    async with serving(after):
        assert await after.result(run_id, timeout=10) == 3


@pytest.mark.parametrize("value", [ORDER, ORDER.lines[0], Decimal("0.10"), b"\xff", Colour.RED])
async def test_a_signal_carries_an_object(flow: Flow, serving, value) -> None:
    """A payload is sent as it is, and restored by the type that the body waits with."""
    kind = type(value)

    @flow.workflow(name="hears")
    async def hears(ctx) -> bool:
        heard = await ctx.wait_signal("value", kind)
        return heard == value and type(heard) is kind

    async with serving(flow):
        run_id = await flow.start("hears")
        await flow.send_signal(run_id, "value", value)
        assert await flow.result(run_id, timeout=10)
