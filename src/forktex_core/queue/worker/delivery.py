# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A job in a worker's hand, and how it ends."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from forktex_core.queue.definition import Definition
from forktex_core.queue.message import Message
from forktex_core.queue.scripts import Word

if TYPE_CHECKING:
    import asyncio

type Verb = Literal["s", "f", "c", "x", "r", "g"]
type Claim = tuple[str, bytes]  # two streams may use one entry id
type Reason = Literal["cancelled", "late", "stopping", "lost"]


@dataclass(slots=True, eq=False)
class Delivery:
    """One delivery of a job: its place in the stream is the claim on it."""

    lane: str
    entry: bytes
    wire: bytes
    message: Message
    definition: Definition | None
    admitted: bool = False
    task: "asyncio.Task[None] | None" = None
    alarm: "asyncio.TimerHandle | None" = None
    interrupted: Reason | None = None

    @property
    def claim(self) -> Claim:
        """Lane and entry id."""
        return self.lane, self.entry


@dataclass(slots=True, eq=False)
class Outcome:
    """What ``settle.lua`` is to write about a delivery; ``message`` differs from the delivery's
    when it is run again."""

    delivery: Delivery
    verb: Verb
    message: bytes
    delay: int = 0
    result: str = ""
    failure: str = ""
    plain: bool = field(default=False, kw_only=True)


def settlement(outcomes: Iterable[Outcome]) -> list[Word]:
    """Outcomes in the words of ``settle.lua``: plain successes in groups, then the others one
    by one."""
    groups: dict[tuple[str, str], list[Word]] = {}
    others: list[Word] = []
    for outcome in outcomes:
        delivery = outcome.delivery
        if outcome.plain:
            groups.setdefault((delivery.lane, delivery.message.name), []).append(delivery.entry)
        else:
            others += (delivery.lane, delivery.entry, outcome.verb, outcome.message)
            others += (outcome.delay, outcome.result, outcome.failure)
    words: list[Word] = [len(groups)]
    for (lane, name), entries in groups.items():
        words += (lane, name, len(entries), *entries)
    return words + others


def triples(flat: Sequence[bytes]) -> Iterable[tuple[str, bytes, bytes]]:
    """Lane, entry and message of each delivery in a flat reply."""
    for i in range(0, len(flat), 3):
        yield flat[i].decode(), flat[i + 1], flat[i + 2]
