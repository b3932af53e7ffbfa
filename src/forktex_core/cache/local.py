# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The second level: entries kept in this process, bounded by count and by bytes. No I/O.

Protocol. The server broadcasts every change below the watched prefixes (see `tracking`), and a
changed name is dropped here. A reader announces what it is about to read (`expect`) and hands in
what it found (`settle`); if one of those names was dropped in between, the find may be older than
the change and isn't kept. Losing the broadcast drops everything, reads under way included. Entries
are kept as JSON and decoded per hit, so that no caller can change another's value.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from .entry import Entry


@dataclass(slots=True)
class Expectation:
    """A read under way.

    Attributes:
        names: the server's names of what is read: the entry's first, then its tags'.
        void: whether one of them changed since.
    """

    names: tuple[str, ...]
    void: bool = False


@dataclass(slots=True)
class _Kept:
    entry: Entry
    dies: float
    names: tuple[str, ...]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.entry.payload) + len(self.names[0])


class LocalTier:
    """Entries by their key's name on the server; the least recently used leave first.

    Args:
        entries: how many to keep at most.
        max_bytes: how many bytes of keys and values to keep at most.
    """

    def __init__(self, entries: int, max_bytes: int) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._tagged: dict[str, set[str]] = {}
        self._expected: dict[str, list[Expectation]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str, now: float) -> tuple[Entry, float] | None:
        """An entry and the seconds that remain of its lifetime at `now` (monotonic)."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        if kept.dies <= now:
            self._remove(name)
            return None
        self._kept.move_to_end(name)
        return kept.entry, kept.dies - now

    def expect(self, *names: str) -> Expectation:
        """Announce a read of an entry and its tags."""
        expectation = Expectation(names)
        for name in names:
            self._expected.setdefault(name, []).append(expectation)
        return expectation

    def settle(self, expectation: Expectation, found: Entry | None, dies: float) -> None:
        """Hand in what was read: an entry that dies at a monotonic time, or nothing to keep."""
        for name in expectation.names:
            waiting = self._expected[name]
            waiting.remove(expectation)
            if not waiting:
                del self._expected[name]
        if found is not None and not expectation.void:
            self._keep(_Kept(found, dies, expectation.names))

    def _keep(self, kept: _Kept) -> None:
        name = kept.names[0]
        self._remove(name)
        if kept.size > self._max_bytes:
            return
        self._kept[name] = kept
        self._bytes += kept.size
        for tag in kept.names[1:]:
            self._tagged.setdefault(tag, set()).add(name)
        while len(self._kept) > self._entries or self._bytes > self._max_bytes:
            self._remove(next(iter(self._kept)))

    def _remove(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is None:
            return
        self._bytes -= kept.size
        for tag in kept.names[1:]:
            tagged = self._tagged[tag]
            tagged.discard(name)
            if not tagged:
                del self._tagged[tag]

    def drop(self, names: Iterable[str]) -> None:
        """Forget what changed: entries of these names and entries tagged with them."""
        for name in names:
            for expectation in self._expected.get(name, ()):
                expectation.void = True
            for tagged in list(self._tagged.get(name, ())):
                self._remove(tagged)
            self._remove(name)

    def clear(self) -> None:
        """Forget everything."""
        for waiting in self._expected.values():
            for expectation in waiting:
                expectation.void = True
        self._kept.clear()
        self._tagged.clear()
        self._bytes = 0
