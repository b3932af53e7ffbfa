# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a type of field is, and the form in which definitions carry it.

A value has three forms. *Given*: what a user, a CSV file or a JSON body says. *Stored*: the JSON
that the row's payload holds; one value has one stored form, so that equality of values is equality
of JSON. *Key*: what the value sorts and compares by, of one of four kinds, for which both tiers
have typed columns:

    text     the first 200 characters, case folded; compared by code point
    number   an exact decimal
    moment   an instant, to the microsecond
    uuid

`coerce` takes a given value to the stored one, `restore` the stored one to Python's, `key` to its
key. The SQL that computes the same key from a payload is `key_sql`; a property test compares them.
"""

import unicodedata
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, Self

from forktex_core.data.errors import Problem, nearest

Kind = Literal["text", "number", "moment", "uuid"]
KEY_CHARACTERS = 200


class ValueRefusedError(ValueError):
    """A value that a type cannot hold; the message completes "the value ..."."""


@dataclass(frozen=True)
class FieldType(ABC):
    """One type of field with its settings."""

    type_name: ClassVar[str]
    kind: ClassVar[Kind | None] = None
    python: ClassVar[Any]
    operators: ClassVar[frozenset[str]] = frozenset({"eq", "ne", "in", "not_in", "is_null"})

    @abstractmethod
    def coerce(self, value: Any) -> Any:
        """The stored form of a given value; raises `ValueRefusedError`."""

    def restore(self, stored: Any) -> Any:
        """Python's form of a stored value."""
        return stored

    def key(self, stored: Any) -> Any:
        """What a stored value sorts and compares by; None for a type without keys."""
        return stored

    def from_key(self, key: Any) -> Any:
        """Python's form of the value that has this key (of one that has it, for folded text)."""
        return key

    def key_sql(self, payload: str, number: int) -> str:
        """The SQL that computes `key` from the JSONB column `payload`."""
        raise NotImplementedError(self.type_name)

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of a given value."""

    def problems(self, path: str) -> list[Problem]:
        """What is wrong with the settings."""
        return []

    def to_json(self) -> dict[str, Any]:
        """The type and those settings that are not the default."""
        settings = {
            each.name: _plain(value)
            for each in fields(self)
            if (value := getattr(self, each.name)) != _default(each)
        }
        return {"type": self.type_name, **settings}

    @classmethod
    def settings_from_json(cls, settings: dict[str, Any]) -> Self:
        """The type from its settings; raises TypeError for an unknown one."""
        return cls(**settings)


def _default(each: Any) -> Any:
    if each.default is not MISSING:
        return each.default
    return each.default_factory() if each.default_factory is not MISSING else MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.to_json() if hasattr(value, "to_json") else value


def unknown_setting(type_name: str, name: str, known: list[str]) -> str:
    """The message about a setting that a type does not have."""
    return f"the type {type_name!r} has no setting {name!r}; {nearest(name, known)}"


def fold(text: str) -> str:
    """Text as it is searched without regard to case."""
    return unicodedata.normalize("NFC", text).casefold()


def clean_text(value: Any, *, longest: int, lines: bool = False) -> str:
    """Text that PostgreSQL can hold, in the one Unicode form."""
    if not isinstance(value, str):
        raise ValueRefusedError(f"is {type(value).__name__}, not text")
    if len(value) > longest:
        raise ValueRefusedError(f"has {len(value)} characters, more than {longest}")
    text = unicodedata.normalize("NFC", value)
    for each in text:
        if each in "\n\t\r" and lines:
            continue
        if unicodedata.category(each) in {"Cc", "Cs"}:
            raise ValueRefusedError(f"contains the control character U+{ord(each):04X}")
    return text
