# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a run waits for: signals in its inbox, and moments.

A signal is taken out of the inbox when the entry that records it is made. If the wait that it was
meant for is given up before that entry is delivered (a race that another branch won, a timeout),
the signal goes back to its place in the inbox: a wait that was released never uses a signal up.
Replay does the same from the journal, whose entries name the signal's number.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator

from forktex_core.flow.engine.operation import Operation, SignalWait
from forktex_core.flow.store.rows import Signal


class Inbox:
    """A run's signals that are not taken, and its waits for signals, by name.

    Only names that something new happened to are looked at, so ten thousand waits for ten thousand
    children cost as many steps, not their square.
    """

    __slots__ = ("_returned", "_signals", "_waits", "changed")

    def __init__(self, signals: Iterable[Signal] = ()) -> None:
        self._signals: dict[str, deque[Signal]] = {}
        self._waits: dict[str, dict[SignalWait, None]] = {}
        self.changed: dict[str, None] = {}
        self._returned: set[int] = set()
        for signal in signals:
            self.put(signal)

    def put(self, signal: Signal) -> None:
        """Add a signal, in the order of the numbers."""
        box = self._signals.setdefault(signal.name, deque())
        if box and box[-1].no > signal.no:
            self._signals[signal.name] = deque(sorted((*box, signal), key=lambda s: s.no))
        else:
            box.append(signal)
        self.changed[signal.name] = None

    def give_back(self, signal: Signal) -> None:
        """Put a signal back whose wait was given up."""
        self._returned.add(signal.no)
        self.put(signal)

    def drop(self, signal: Signal) -> None:
        """Take a signal out that is delivered, if it had come back."""
        if signal.no in self._returned:
            self._returned.discard(signal.no)
            box = self._signals[signal.name]
            self._signals[signal.name] = deque(s for s in box if s.no != signal.no)

    def pop(self, name: str) -> Signal | None:
        """Take the next signal of a name out."""
        box = self._signals.get(name)
        return box.popleft() if box else None

    def wait(self, call: SignalWait) -> None:
        """Add a wait."""
        for name in call.signals:
            self._waits.setdefault(name, {})[call] = None
            if self._signals.get(name):
                self.changed[name] = None

    def holds(self, call: SignalWait) -> bool:
        """Say whether there is a signal for a wait."""
        return any(self._signals.get(name) for name in call.signals)

    def release(self, call: SignalWait) -> bool:
        """Give a wait up; say whether it still waited."""
        waited = False
        for name in call.signals:
            calls = self._waits.get(name)
            if calls is not None and call in calls:
                del calls[call]
                waited = True
                if not calls:
                    del self._waits[name]
        return waited

    def matches(self) -> Iterator[tuple[SignalWait, Signal]]:
        """Take out what fits: the longest wait gets the oldest signal."""
        while self.changed:
            name = next(iter(self.changed))
            while (calls := self._waits.get(name)) and self._signals.get(name):
                call = next(iter(calls))
                boxes = [box for other in call.signals if (box := self._signals.get(other))]
                signal = min(boxes, key=lambda box: box[0].no).popleft()
                self.release(call)
                yield call, signal
            self.changed.pop(name, None)


class Timers:
    """Moments at which open calls go on, the next one first."""

    __slots__ = ("_count", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Operation]] = []
        self._count = 0

    def set(self, when: float, call: Operation) -> None:
        """Let a call go on at a moment (seconds since the epoch)."""
        self._count += 1
        heapq.heappush(self.heap, (when, self._count, call))

    def next(self, open_calls: dict[str, Operation]) -> float | None:
        """Return the next moment at which a call that is still open goes on."""
        heap = self.heap
        while heap and open_calls.get(heap[0][2].key) is not heap[0][2]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float, open_calls: dict[str, Operation]) -> Iterator[Operation]:
        """Take out the open calls whose moment has come."""
        while (when := self.next(open_calls)) is not None and when <= now:
            yield heapq.heappop(self.heap)[2]
