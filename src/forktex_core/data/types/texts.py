# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Text: short and long, e-mail addresses, URLs, phone numbers.

A payload holds the folded twin of a text beside it (`"7~"` beside `"7"`) when the two differ, so
that comparisons without regard to case need no collation and no extension of the database, and give
the same answer on each.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from forktex_core.data.errors import Problem
from forktex_core.data.types.field_type import (
    KEY_CHARACTERS,
    FieldType,
    Kind,
    ValueRefusedError,
    clean_text,
    fold,
)

TWIN = "~"


@dataclass(frozen=True)
class _TextType(FieldType):
    kind: ClassVar[Kind | None] = "text"
    python: ClassVar[Any] = str
    operators: ClassVar[frozenset[str]] = FieldType.operators | frozenset(
        "lt lte gt gte between contains icontains startswith istartswith regex".split()
    )

    def key(self, stored: Any) -> Any:
        return fold(stored)[:KEY_CHARACTERS]

    def key_sql(self, payload: str, number: int) -> str:
        return f'left({self.folded_sql(payload, number)}, {KEY_CHARACTERS}) COLLATE "C"'

    def folded_sql(self, payload: str, number: int) -> str:
        """The SQL of the whole folded text."""
        return f"coalesce({payload}->>'{number}{TWIN}', {payload}->>'{number}')"


@dataclass(frozen=True)
class Text(_TextType):
    """One line of text, of at most `max_length` characters."""

    type_name: ClassVar[str] = "text"
    max_length: int = 2_000

    def coerce(self, value: Any) -> Any:
        return clean_text(value, longest=self.max_length)

    def problems(self, path: str) -> list[Problem]:
        return _length_problems(self.max_length, 10_000, path)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.max_length}


@dataclass(frozen=True)
class LongText(_TextType):
    """Text of many lines, of at most `max_length` characters."""

    type_name: ClassVar[str] = "long_text"
    max_length: int = 50_000

    def coerce(self, value: Any) -> Any:
        return clean_text(value, longest=self.max_length, lines=True)

    def problems(self, path: str) -> list[Problem]:
        return _length_problems(self.max_length, 200_000, path)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.max_length}


def _length_problems(length: object, most: int, path: str) -> list[Problem]:
    if isinstance(length, int) and not isinstance(length, bool) and 1 <= length <= most:
        return []
    return [Problem(f"{path}.max_length", "setting", f"max_length is a number from 1 to {most:,}")]


_ADDRESS = re.compile(r"[^\s@<>\"(),:;\\\[\]]{1,64}@([a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}")


@dataclass(frozen=True)
class Email(_TextType):
    """An e-mail address; its domain is stored in lower case."""

    type_name: ClassVar[str] = "email"

    def coerce(self, value: Any) -> Any:
        text = clean_text(value, longest=254).strip()
        local, at, domain = text.rpartition("@")
        text = local + at + domain.lower()
        if not _ADDRESS.fullmatch(text):
            raise ValueRefusedError("is no e-mail address (name@example.com)")
        return text

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "email", "maxLength": 254}


@dataclass(frozen=True)
class Url(_TextType):
    """An absolute http or https address."""

    type_name: ClassVar[str] = "url"

    def coerce(self, value: Any) -> Any:
        text = clean_text(value, longest=2_000).strip()
        try:
            parts = urlsplit(text)
            right = parts.scheme in {"http", "https"} and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            right = False
        if not right or " " in text:
            raise ValueRefusedError("is no address of the web (https://example.com/...)")
        return text

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uri", "maxLength": 2_000}


@dataclass(frozen=True)
class Phone(_TextType):
    """A phone number in the international form: a plus sign and 7 to 15 digits."""

    type_name: ClassVar[str] = "phone"

    def coerce(self, value: Any) -> Any:
        text = re.sub(r"[\s().\-/]", "", clean_text(value, longest=40))
        if text.startswith("00"):
            text = "+" + text[2:]
        if not re.fullmatch(r"\+[1-9][0-9]{6,14}", text):
            raise ValueRefusedError("is no phone number in the international form (+40 21 ...)")
        return text

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$"}
