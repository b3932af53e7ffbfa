# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The replay cursor: journal plus request gives *recorded*, *execute* or *mismatch*. Pure, no I/O,
no clock.

Laws, each a property test:

- A request for a recorded key returns its entry when kind and name agree, and raises
  NonDeterminismError when not.
- Recorded completions are delivered in the order in which they were journaled, each only once it
  was requested; the body runs as far as it can between two deliveries. So control flow that depends
  on which branch finished first takes the same way again.
- A completion that stands next in the journal, while the body waits and has never asked for it, is
  a mismatch.
- A cancellation is delivered without having been asked for. So is a patch mark, which completes
  nothing: code that no longer asks for it took the new way for good.
- Attempts (kind ``attempt``) are notes about a step that is still open: they complete nothing.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from forktex_core.flow.errors import NonDeterminismError

# Kinds of entries.
STEP, TIMER, SIGNAL = "step", "timer", "signal"
CHILD, EFFECT = "child", "effect"
ATTEMPT, CANCEL, PATCH = "attempt", "cancel", "patch"

# What is known of an entry that this process made: not durable yet, durable, or never to be.
PENDING, READY, DROPPED = 0, 1, 2


@dataclass(slots=True)
class Entry:
    """One line of a run's journal. Times are seconds since the epoch by the database's clock."""

    key: str
    seq: int
    kind: str
    name: str
    failed: bool
    value: str | None
    claim: int
    attempt: int
    started_at: float
    at: float
    requested: bool = False
    settled: int = PENDING

    @property
    def label(self) -> str:
        """Name the entry as error messages do."""
        return f"{self.kind} {self.name!r}"


class Replay:
    """What a run's journal still has to say to the body."""

    __slots__ = ("_attempts", "_by_key", "_order")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._order: deque[Entry] = deque()
        self._by_key: dict[str, Entry] = {}
        self._attempts: dict[str, Entry] = {}
        for entry in sorted(entries, key=lambda e: e.seq):
            if entry.kind == ATTEMPT:
                self._attempts[entry.key.partition("#")[0]] = entry
            else:
                self._order.append(entry)
                self._by_key[entry.key] = entry
                self._attempts.pop(entry.key, None)

    def __len__(self) -> int:
        return len(self._order)

    def request(self, key: str, kind: str, name: str) -> Entry | None:
        """Return the entry recorded at ``key``, or None when the work is new."""
        entry = self._by_key.pop(key, None)
        if entry is None:
            return None
        if entry.kind != kind or entry.name != name:
            raise NonDeterminismError(key, entry.label, f"{kind} {name!r}")
        entry.requested = True
        return entry

    @property
    def went_on(self) -> bool:
        """Whether the journal shows that the run got beyond what was delivered."""
        return bool(self._order or self._attempts)

    def unasked(self) -> Entry | None:
        """Return an entry that the code, which has ended, never asked for."""
        return next((e for e in self._by_key.values() if e.kind not in (CANCEL, PATCH)), None)

    def last_attempt(self, key: str) -> Entry | None:
        """Return the last failed attempt of the open step at ``key``, if there was one."""
        return self._attempts.pop(key, None)

    def deliver(self) -> Entry | None:
        """Take the next completion out; None when the journal is exhausted.

        Raises NonDeterminismError when the code has not asked for what comes next.
        """
        if not self._order:
            return None
        entry = self._order[0]
        if not entry.requested and entry.kind not in (CANCEL, PATCH):
            raise NonDeterminismError(entry.key, entry.label, None)
        return self._order.popleft()
