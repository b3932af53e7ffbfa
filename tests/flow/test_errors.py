# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Exceptions that resist: none loses a result, hangs a run or takes its worker along."""

import asyncio

import pytest

from forktex_core.flow import Flow, FlowContext, RunFailed, StepContext, StepFailed
from forktex_core.flow.errors import record_error


class Needy(Exception):
    """Can't be made again from its arguments."""

    def __init__(self, *, code: int) -> None:
        self.code = code
        super().__init__(f"code {code}")


class Slotted(Exception):
    """Has a layout of its own."""

    __slots__ = ("detail",)


class Circular(Exception):
    """Is its own cause."""

    def __init__(self) -> None:
        super().__init__("circular", self)
        self.__cause__ = self


class Mute(Exception):
    """Fails at whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"no {name}")


class Liar(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - that is the test


RESISTING = {
    "needy": lambda: Needy(code=3),
    "slotted": lambda: Slotted("a", object()),
    "circular": Circular,
    "mute": Mute,
    "liar": Liar,
    "large": lambda: ValueError("x" * 5_000_000),
    "surrogate": lambda: ValueError("\ud800", "\x00"),
    "group": lambda: ExceptionGroup("several", [ValueError("one"), Mute()]),
    "recursion": lambda: RecursionError("deep"),
    "stop": lambda: StopAsyncIteration("stop"),
    "exit": lambda: SystemExit(3),
    "base": lambda: BaseException("base"),
    "generator": lambda: GeneratorExit("left"),
}


def raise_it(name: str) -> None:
    error = RESISTING[name]()
    raise error


@pytest.mark.parametrize("where", ["step", "thread", "body"])
async def test_exceptions_that_resist(flow: Flow, serving, sql, where: str) -> None:
    """Each ends its step or its run as failed, with its type's name, and the next run goes on."""

    @flow.step
    async def in_step(ctx: StepContext, name: str) -> None:
        await asyncio.sleep(0)
        raise_it(name)

    def in_thread(name: str) -> None:
        raise_it(name)

    @flow.workflow()
    async def body(ctx: FlowContext, name: str) -> str:
        if where == "body":
            raise_it(name)
        try:
            await (in_step(ctx, name) if where == "step" else ctx.step(in_thread, name))
        except StepFailed as error:
            return error.type_name.rpartition(".")[2]
        return "not raised"

    async with serving(flow):
        for name, make in RESISTING.items():
            expected = type(make()).__name__
            if where == "body":
                with pytest.raises(RunFailed) as failed:
                    await flow.run("body", name, timeout=10)
                assert failed.value.type_name.endswith(expected)
            else:
                assert await flow.run("body", name, timeout=10) == expected
        sizes = await sql.fetch("SELECT length(error::text) FROM run UNION ALL"
                                " SELECT length(value::text) FROM journal")  # fmt: skip
    assert max(row[0] or 0 for row in sizes) < 1_000_000


@pytest.mark.parametrize("name", RESISTING)
def test_what_is_recorded_is_always_json_safe(name: str) -> None:
    """A record has text for type, message and traceback, whatever the exception does."""
    record = record_error(RESISTING[name]())
    assert all(isinstance(record[part], str) for part in ("type", "message", "traceback"))
    assert "\x00" not in str(record.get("args")).encode("utf-8").decode()
