# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Log records say which run, step and worker they come from."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest

from forktex_core.flow import Flow, JsonLines, LogContext, Retry, logs

LOGGER = logging.getLogger("shop")


class Kept(logging.Handler):
    """Keeps what it is given, formatted as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict] = []
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """A handler on the logger of a shop, with the context of runs."""
    monkeypatch.setattr(logs, "following", False)
    handler = Kept()
    handler.addFilter(LogContext())
    LOGGER.addHandler(handler)
    monkeypatch.setattr(LOGGER, "level", logging.INFO)
    yield handler
    LOGGER.removeHandler(handler)


async def test_records_of_steps_and_bodies_say_where_they_come_from(
    flow: Flow, serving, kept: Kept
) -> None:
    """In async steps, in threads of plain ones, in tasks that they start, on every attempt, in the
    body, of many runs at once; outside of runs they say nothing.
    """

    @flow.step(name="talk", retries=Retry(max_attempts=2, initial=0.01))
    async def talk(ctx, n: int) -> None:
        LOGGER.info("step of %s", n)
        await asyncio.create_task(inner(n))
        if ctx.attempt == 1:
            raise ValueError("again")

    async def inner(n: int) -> None:
        await asyncio.sleep(0)
        LOGGER.info("task of %s", n)

    def plain(n: int) -> None:
        LOGGER.info("thread of %s", n)

    @flow.workflow(name="talks", version=3)
    async def talks(ctx, n: int) -> str:
        LOGGER.info("body of %s", n)
        await talk(ctx, n)
        await ctx.step(plain, n)
        LOGGER.info("end of %s", n, extra={"step": "mine"})
        return str(ctx.run_id)

    async with serving(flow, warm=100):
        ids = await flow.start_many(talks, list(range(5)))
        for n, run_id in enumerate(ids):
            assert await flow.result(run_id, timeout=20) == str(run_id)
            lines = [line for line in kept.lines if line["message"].endswith(f"of {n}")]
            assert {line["run_id"] for line in lines} == {str(run_id)}
            assert {line["workflow"] for line in lines} == {"talks@3"}
            worker = (await flow.fleet.workers())[0].id
            assert {line["worker_id"] for line in lines} == {worker}
            said = [(x["message"].split()[0], x.get("step"), x.get("attempt")) for x in lines]
            thread = f"{plain.__qualname__}"
            assert said == [
                ("body", None, None), ("step", "talk", 1), ("task", "talk", 1), ("step", "talk", 2),
                ("task", "talk", 2), ("thread", thread, 1), ("end", "mine", None),
            ]  # fmt: skip
    LOGGER.info("nowhere")
    assert "run_id" not in kept.lines[-1]


def test_json_lines_hold_all_that_a_record_has(kept: Kept) -> None:
    """Extras of any type, and the traceback of an exception, in one line."""
    try:
        raise RuntimeError("broken\nin two lines")
    except RuntimeError:
        LOGGER.exception("it %s", "failed", extra={"order": 17, "what": {1}, "level": "mine"})
    (line,) = kept.lines
    assert (line["message"], line["level"], line["logger"]) == ("it failed", "ERROR", "shop")
    assert (line["order"], line["what"]) == (17, "{1}")
    assert "RuntimeError: broken" in line["exception"]
    assert line["time"].endswith("+00:00")


async def test_nobody_pays_who_does_not_ask(flow: Flow, serving, monkeypatch) -> None:
    """Without a LogContext no context is kept."""
    monkeypatch.setattr(logs, "following", False)
    entered: list[object] = []
    monkeypatch.setattr(logs, "enter", lambda *args: entered.append(args))

    async def work() -> None: ...

    @flow.workflow(name="w")
    async def w(ctx) -> None:
        await ctx.step(work)

    async with serving(flow):
        await flow.run("w", timeout=10)
        assert entered == []
        LogContext()
        await flow.run("w", timeout=10)
        assert len(entered) == 2
