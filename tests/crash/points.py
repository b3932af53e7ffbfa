# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where a worker may die: before and after every statement that it sends.

A point is the n-th time that one named query is asked, and whether death comes before the statement
reaches Postgres or after its answer did (and was lost). Points are named by query and not by a
running number, so that a point is the same one in every run, whatever the ticks do in between.

Death is the death of a process as far as one process can play it: every connection is cut
(Postgres drops the session locks), no statement is sent any more, and what the dead worker's code
still does in memory leaves no effect (ask ``alive`` in whatever records effects). The real thing,
SIGKILL at the same points, is what tests/crash/victim.py does.
"""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from forktex_core.flow import Flow
from forktex_core.flow.store.connection import Link
from forktex_core.flow.store.sql import queries


@dataclass(frozen=True)
class Point:
    """Death at the n-th (from 1) statement of a name."""

    query: str
    number: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.query} {self.number}"

    @classmethod
    def parse(cls, text: str) -> "Point":
        """Read what str() wrote."""
        side, query, number = text.split()
        return cls(query, int(number), side == "after")


class Dead(ConnectionError):
    """What a statement of a dead process would get, if anybody were there to see."""


class Fate:
    """Counts the statements of one worker and lets it die at its point.

    Args:
        schema: the schema whose queries are counted.
        point: where to die; None to live and count.
        die: what dying is.
    """

    def __init__(self, schema: str, point: Point | None, die: Callable[[], None]) -> None:
        self._names = {text: name for name, text in queries(schema).items()}
        self._point, self._die = point, die
        self.seen: Counter[str] = Counter()
        self.alive = True
        self.struck = asyncio.Event()

    async def pass_through(self, sql: str, send: Callable[[], Any]) -> Any:
        """Send a statement, unless death comes first."""
        if not self.alive:
            raise Dead
        name = sql if sql.startswith("transaction.") else self._names.get(sql, "other")
        self.seen[name] += 1
        here = self._point is not None and (self._point.query, self._point.number) == (
            name,
            self.seen[name],
        )
        if here and not self._point.after:  # type: ignore[union-attr]
            self._strike()
        answer = await send()
        if here:
            self._strike()
        if not self.alive:
            raise Dead
        return answer

    def _strike(self) -> None:
        self.alive = False
        self.struck.set()
        self._die()
        raise Dead


class MortalLink(Link):
    """A worker's connection that shares its fate."""

    fate: Fate

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Run one statement, if the worker lives to send it and to read the answer."""
        send = super().fetch
        return await self.fate.pass_through(sql, lambda: send(sql, *args))  # type: ignore[no-any-return]


class MortalFlow(Flow):
    """A Flow whose worker dies at a point."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fate: Fate | None = None
        self._links: list[MortalLink] = []
        self._transactions_open: list[Any] = []

    def doom(self, point: Point | None, die: Callable[[], None] | None = None) -> Fate:
        """Choose the point, after open() and before run_worker()."""
        assert self._opened is not None
        self.fate = Fate(self.schema, point, die or self._cut)
        run = self._opened.store._run
        fate = self.fate
        self._opened.store._run = lambda sql, *args: fate.pass_through(sql, lambda: run(sql, *args))
        self._doom_transactions(fate)
        return fate

    def _doom_transactions(self, fate: Fate) -> None:
        """Make the last words of transactional steps, and their commits, points as well."""
        assert self._opened is not None
        transactions = self._opened.transactions
        begin = transactions.begin

        async def begin_mortal() -> Any:
            if not fate.alive:
                raise Dead
            transaction = await begin()
            self._transactions_open.append(transaction)
            for name in ("write", "commit"):
                real = getattr(transaction, name)
                setattr(transaction, name, functools.partial(self._mortal, fate, name, real))
            return transaction

        transactions.begin = begin_mortal  # type: ignore[method-assign]

    @staticmethod
    async def _mortal(fate: Fate, name: str, real: Callable[..., Any], *args: Any) -> Any:
        return await fate.pass_through(f"transaction.{name}", lambda: real(*args))

    def _link(self, purpose: str) -> Link:
        link = super()._link(purpose)
        if self.fate is None:
            return link
        link.__class__ = MortalLink
        link.fate = self.fate  # type: ignore[attr-defined]
        self._links.append(link)  # type: ignore[arg-type]
        return link

    def _cut(self) -> None:
        for link in self._links:
            link.drop()
        for transaction in self._transactions_open:
            with suppress(Exception):  # a closed one has no connection left to cut
                raw = transaction._connection.sync_connection.connection.driver_connection
                raw.terminate()
