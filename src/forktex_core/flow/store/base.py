# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What all collections of queries share: a place to run them, and the payload codec.

Values are encoded where they leave for the database and decoded where they come from it, so nothing
above the store knows of a codec. What is stored is the encoded text, as a JSON string. Texts that
are no JSON string were written before there was a codec, or by the database itself, and are taken
as they are.
"""

import json
from collections.abc import Callable
from typing import Any, Self

from forktex_core.flow.errors import PayloadError
from forktex_core.flow.store.connection import Statements
from forktex_core.flow.store.passage import Passage
from forktex_core.flow.store.sql import queries
from forktex_core.flow.store.view import View

_PLAIN = View()

type Codec = tuple[Callable[[str], str], Callable[[str], str]]


class Queries:
    """The named queries of a schema, run on a pool or on a link."""

    def __init__(
        self,
        statements: Statements,
        schema: str,
        codec: Codec | None = None,
        passage: Passage | None = None,
    ) -> None:
        self._run = statements.fetch
        self.sql = queries(schema)
        self._codec = codec
        self._made_of = (statements, schema, codec, passage)
        if passage is not None:
            self._pass_through(passage)

    def _pass_through(self, passage: Passage) -> None:
        """Send every query through a passage from now on."""
        statements: Any = self._made_of[0]
        rendered = passage.view.queries(self._made_of[1])

        async def rows(name: str, *args: Any) -> list[Any]:
            return await passage.fetch(statements, name, rendered[name], args)

        async def row(name: str, *args: Any) -> Any:
            found = await rows(name, *args)
            return found[0] if found else None

        self._rows, self._row = rows, row  # type: ignore[method-assign]

    def beside[Q: "Queries"](self, kind: type[Q]) -> Q:
        """Return another collection of queries in the same place."""
        return kind(*self._made_of)

    def seen_by(self, view: View) -> Self:
        """Return the same queries as a principal's view has them."""
        return self.through(Passage(view) if self.passage is None else self.passage.seen_by(view))

    def on(self, statements: Statements) -> Self:
        """Return the same queries over another connection."""
        return type(self)(statements, *self._made_of[1:])

    def through(self, passage: Passage | None) -> Self:
        """Return the same queries on another way."""
        return type(self)(*self._made_of[:3], passage)

    @property
    def passage(self) -> Passage | None:
        """What the queries go through; None without extensions."""
        return self._made_of[3]

    @property
    def view(self) -> View:
        """What the queries carry."""
        return _PLAIN if self.passage is None else self.passage.view

    def statement(self, name: str, *args: Any) -> tuple[str, tuple[Any, ...]]:
        """Return a query's text and all its arguments, for a connection of somebody else's."""
        if self.passage is None:
            return self.sql[name], args
        query = self.view.queries(self._made_of[1])[name]
        return query.sql, query.arguments(self.view, args)

    def sets(self, name: str) -> bool:
        """Whether a query makes the settings of the view by itself."""
        return self.passage is not None and self.view.queries(self._made_of[1])[name].sets

    async def _rows(self, name: str, *args: Any) -> list[Any]:
        return await self._run(self.sql[name], *args)

    async def _row(self, name: str, *args: Any) -> Any:
        rows = await self._run(self.sql[name], *args)
        return rows[0] if rows else None

    def encode(self, text: str | None) -> str | None:
        """Return what is stored for a value's JSON text."""
        return text if self._codec is None or text is None else encode(self._codec, text)

    def encode_error(self, text: str | None) -> str | None:
        """Return what is stored for a recorded error. One that the codec can't encode is replaced
        by a plain one that says so, and tells nothing else.
        """
        try:
            return self.encode(text)
        except PayloadError as error:
            what = type(error.__cause__).__name__
            message = f"an error that the payload codec could not encode: {what}"
            return json.dumps(
                {"type": f"{PayloadError.__module__}.PayloadError", "message": message}
            )

    def decode(self, text: str | None) -> str | None:
        """Return the JSON text of what was stored."""
        return text if self._codec is None or text is None else decode(self._codec, text)

    def decode_signal(self, name: str, text: str | None) -> str | None:
        """Return a signal's payload. The engine's own are plain; a child's end holds what its run
        was given.
        """
        if self._codec is None or text is None or not name.startswith("$"):
            return self.decode(text)
        if not name.startswith("$child:"):
            return text
        end = json.loads(text)
        for part in ("output", "error"):
            if isinstance(end.get(part), str):
                end[part] = json.loads(decode(self._codec, json.dumps(end[part])))
        return json.dumps(end, ensure_ascii=False)

    def encode_signal(self, name: str, text: str | None) -> str | None:
        """Return what is stored for a signal's payload."""
        return text if name.startswith("$") else self.encode(text)


def encode(codec: Codec, text: str) -> str:
    """Encode a text; raise PayloadError when the codec fails."""
    try:
        encoded = codec[0](text)
        if not isinstance(encoded, str):
            raise TypeError(f"it returned {type(encoded).__name__}, not str")
        return json.dumps(encoded)
    except Exception as error:
        raise PayloadError(
            f"the payload codec's encode failed: {type(error).__name__}: {error}; it takes a str "
            "and returns one"
        ) from error


def decode(codec: Codec, text: str) -> str:
    """Decode a text; raise PayloadError when the codec fails."""
    if not text.startswith('"'):
        return text
    try:
        decoded = codec[1](json.loads(text))
        if not isinstance(decoded, str):
            raise TypeError(f"it returned {type(decoded).__name__}, not str")
        return decoded
    except Exception as error:
        raise PayloadError(
            f"the payload codec's decode failed: {type(error).__name__}: {error}; give this Flow "
            "the codec (and the keys) with which the value was written"
        ) from error
