# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a run's inbox costs: counted in instructions of Python, which are the same every time."""

import sys
from types import FrameType
from typing import Any

import pytest

from forktex_core.flow.codec import ANY
from forktex_core.flow.engine import waits
from forktex_core.flow.engine.operation import SignalWait
from forktex_core.flow.engine.waits import Inbox
from forktex_core.flow.store.rows import Signal


def instructions(work: Any) -> int:
    """Count the instructions that run in waits.py."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != waits.__file__:
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def waiting(names: list[str]) -> list[SignalWait]:
    return [
        SignalWait(key=str(n), kind="signal", name=name, signals=(name,), shape=ANY)
        for n, name in enumerate(names)
    ]


@pytest.mark.parametrize("distinct", [True, False], ids=["children", "one name"])
def test_many_waits_cost_as_many_steps(distinct: bool) -> None:
    """Waits for many children, or many waits for one name: each signal costs the same, however many
    others wait.
    """

    def cost(many: int) -> int:
        names = [f"$child:{n}" if distinct else "go" for n in range(many)]
        inbox = Inbox()
        for wait in waiting(names):
            inbox.wait(wait)
        taken: list[int] = []

        def work() -> None:
            for number, name in enumerate(names, 1):
                inbox.put(Signal(number, name, None, 0.0))
                taken.extend(signal.no for _, signal in inbox.matches())

        counted = instructions(work)
        assert taken == list(range(1, many + 1))
        return counted

    few, many = cost(50), cost(500)
    assert few > 0
    assert many <= 10.5 * few
