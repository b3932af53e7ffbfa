# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The assertions of W3C's implementation report for SCXML, as far as they hold here.

docs/scxml.csv lists all of them; each one that holds, wholly or partly, has a machine in
scxml_cases.py, which runs on the engine.
"""

import asyncio
import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forktex_core.flow import Flow, Graph, GraphError, Library, RunFinishedError
from tests.flow.scxml_cases import CASES
from tests.flow.test_graph_walk import at

LIST = Path(__file__).parents[2] / "docs" / "scxml.csv"
# Shown without a run: what is wrong is refused when the document is read.
ELSEWHERE = {"313"}


def rows() -> list[dict[str, str]]:
    """Return the assertions."""
    with LIST.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_list_is_whole_and_each_assertion_that_holds_has_a_machine() -> None:
    """231 assertions, each with what it demands; a reason where it doesn't hold; and what is said
    to hold is what is tested.
    """
    found = rows()
    assert len(found) == len({row["id"] for row in found}) == 231
    assert Counter(row["level"] for row in found) == {"mandatory": 167, "optional": 64}
    assert {row["support"] for row in found} == {"yes", "partly", "no"}
    for row in found:
        assert row["demand"]
        assert bool(row["reason"]) == (row["support"] != "yes"), row
    holding = {row["id"] for row in found if row["support"] != "no"}
    assert holding == CASES.keys() | ELSEWHERE


def library(marks: list[str]) -> Library:
    """Return actions for all names that the machines use, which leave them in a list."""

    def action(name: str) -> Any:
        async def leave(ctx: Any, payload: Any) -> None:
            async def mark() -> None:
                marks.append(name)

            if name == "boom":
                raise ValueError(name)
            await ctx.step(mark)

        return leave

    names = {name for case in CASES.values() for name in re.findall(r"\[(\w+)\]", case.body)}
    return Library(actions={name: action(name) for name in names})


async def run(flow: Flow, number: str) -> str:
    """Run one machine to its end; return its path."""
    run_id = await flow.start(f"t{number}", {"n": 1})
    for signal in CASES[number].signals:
        await flow.offer_signal(run_id, signal, timeout=20)
    await flow.result(run_id, timeout=20)
    position = await at(flow, run_id, "end")
    if number == "415":
        with pytest.raises(RunFinishedError):
            await flow.send_signal(run_id, "go")
    return " ".join(position["path"])


async def test_the_machines_do_what_the_assertions_demand(flow: Flow, serving) -> None:
    """All come to their end, their actions in the right order, their states in the right one."""
    marks: dict[str, list[str]] = {number: [] for number in CASES}
    left_out = {}
    for number, case in CASES.items():
        imported = Graph.from_scxml(case.document(f"t{number}"))
        left_out[number] = [problem.path for problem in imported.unmapped]
        flow.register_graph(imported.graph(library(marks[number])))
    assert left_out == {number: case.unmapped for number, case in CASES.items()}
    async with serving(flow):
        paths = await asyncio.gather(*(run(flow, number) for number in CASES))
    found = {number: " ".join(marks[number]) for number in CASES}
    assert found == {number: case.marks for number, case in CASES.items()}
    for number, path in zip(CASES, paths, strict=True):
        assert CASES[number].path in ("", path), number


def test_an_expression_of_wrong_form_rejects_the_document() -> None:
    """313: at once, by the transition that it stands in."""
    text = CASES["403"].document("x").replace("payload.n == 2", "payload.n ==")
    with pytest.raises(GraphError) as caught:
        Graph.from_scxml(text).graph(library([]))
    assert [(p.code, p.path) for p in caught.value.problems] == [
        ("wrong-expression", "/transitions/0/when")
    ]
