# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""XML that end users wrote, read with suspicion.

Whatever expands or fetches in XML is declared in a DOCTYPE, so a text that has one is refused: no
entities, no external files, no defaults. It is UTF-8 whatever it says of itself. Size, nesting and
the number of elements are bounded while expat reads, not afterwards.
"""

from collections import Counter
from dataclasses import dataclass, field
from xml.parsers import expat

from forktex_core.flow.graph.document import MAX_BYTES, MAX_NESTING, refused

MAX_ELEMENTS = 20_000
_SEPARATOR = "\x1f"  # no XML text can hold it


@dataclass(slots=True, eq=False)
class Element:
    """An element.

    Args:
        name: its name without a prefix.
        space: its namespace; empty for none.
        attributes: by name; those of a namespace as ``{namespace}name``.
        path: its place, as an XPath of local names and positions.
        parent: the element around it.
        children: those inside of it, in their order.
    """

    name: str
    space: str
    attributes: dict[str, str]
    path: str
    parent: "Element | None" = None
    children: list["Element"] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def read(text: str | bytes) -> Element:
    """Return the root of an XML text.

    Raises:
        GraphError: it is no XML, has a DOCTYPE, or is too large; with one problem.
    """
    try:
        raw = text if isinstance(text, bytes) else text.encode()
        raw.decode()
    except UnicodeError as error:
        raise refused("wrong-xml", f"it is no UTF-8: {error}") from None
    if len(raw) > MAX_BYTES:
        raise refused("too-large", f"it is {len(raw):,} bytes long, {MAX_BYTES:,} are allowed")
    builder = _Builder()
    try:
        builder.parser().Parse(raw, True)
    except expat.ExpatError as error:
        raise refused("wrong-xml", f"it is no XML: {error}") from None
    assert builder.root is not None  # or expat had said that there is none
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._here: Element | None = None
        self._depth = self._elements = 0

    def parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate("utf-8", _SEPARATOR)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        return parser

    def _doctype(self, *_: object) -> None:
        raise refused("wrong-xml", "it has a DOCTYPE: leave it out")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_NESTING:
            raise refused("nested-too-deep", f"it is nested more than {MAX_NESTING} deep")
        if self._elements > MAX_ELEMENTS:
            raise refused("too-large", f"it has more than {MAX_ELEMENTS:,} elements")
        space, _, local = name.rpartition(_SEPARATOR)
        named = {_bracketed(key): value for key, value in attributes.items()}
        self._here = self._placed(local, space, named)
        self.root = self.root or self._here

    def _placed(self, name: str, space: str, attributes: dict[str, str]) -> Element:
        parent = self._here
        if parent is None:
            return Element(name, space, attributes, f"/{name}")
        parent.counts[name] += 1
        path = f"{parent.path}/{name}[{parent.counts[name]}]"
        parent.children.append(made := Element(name, space, attributes, path, parent))
        return made

    def _end(self, _name: str) -> None:
        assert self._here is not None
        self._depth -= 1
        self._here = self._here.parent


def _bracketed(name: str) -> str:
    space, separator, local = name.rpartition(_SEPARATOR)
    return f"{{{space}}}{local}" if separator else local
