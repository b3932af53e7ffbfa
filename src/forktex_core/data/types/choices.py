# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Choices of a list that the register's owner keeps: one of it, or several.

A choice is stored by its key and sorts by its place in the list. A new option at the end leaves the
keys of all rows as they are; another order changes them, and the field's column is filled anew.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self

from forktex_core.data.errors import Problem
from forktex_core.data.names import label_problems
from forktex_core.data.types.field_type import FieldType, Kind, ValueRefusedError, unknown_setting

_KEY = re.compile(r"[a-z0-9][a-z0-9_\-]{0,62}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_MOST = 500


@dataclass(frozen=True)
class Option:
    """One choice: its key, what people read, and a colour (#rrggbb) to show it in."""

    key: str
    label: str = ""
    colour: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The option as its definition carries it."""
        found = {"key": self.key, "label": self.label or None, "colour": self.colour}
        return {name: value for name, value in found.items() if value is not None}


def _option(given: Any) -> Option:
    if isinstance(given, Option):
        return given
    if isinstance(given, str):
        return Option(given)
    if isinstance(given, dict) and set(given) <= {"key", "label", "colour"} and "key" in given:
        return Option(**given)
    raise TypeError("an option is a key, or an object of key, label and colour")


@dataclass(frozen=True)
class _Choice(FieldType):
    options: tuple[Option, ...] = ()

    def __init__(self, options: Iterable[Option | str | dict[str, Any]]) -> None:
        object.__setattr__(self, "options", tuple(map(_option, options)))

    @property
    def keys(self) -> tuple[str, ...]:
        """The options' keys, in their order."""
        return tuple(each.key for each in self.options)

    @classmethod
    def settings_from_json(cls, settings: dict[str, Any]) -> Self:
        for name in settings:
            if name != "options":
                raise TypeError(unknown_setting(cls.type_name, name, ["options"]))
        return cls(settings.get("options", ()))

    def problems(self, path: str) -> list[Problem]:
        path = f"{path}.options"
        if not 1 <= len(self.options) <= _MOST:
            return [Problem(path, "setting", f"there are 1 to {_MOST} options")]
        found = []
        for at, each in enumerate(self.options):
            place = f"{path}[{at}]"
            if not _KEY.fullmatch(str(each.key)):
                message = f"{each.key!r} is no key: small letters, digits, _ and -"
                found.append(Problem(place, "setting", message))
            found += label_problems(each.label, place)
            if each.colour is not None and not _COLOUR.fullmatch(str(each.colour)):
                found.append(Problem(place, "setting", f"{each.colour!r} is no colour (#1a2b3c)"))
        if len(set(self.keys)) < len(self.keys):
            found.append(Problem(path, "setting", "two options have the same key"))
        return found

    def one(self, value: Any) -> str:
        """The key of an option, given by its key or its label."""
        for each in self.options:
            if value == each.key or (each.label and value == each.label):
                return each.key
        shown = ", ".join(self.keys[:20])
        raise ValueRefusedError(f"is {repr(value)[:60]}, none of {shown}")


@dataclass(frozen=True, init=False)
class Enum(_Choice):
    """One of several options."""

    type_name: ClassVar[str] = "enum"
    kind: ClassVar[Kind | None] = "number"
    python: ClassVar[Any] = str
    operators: ClassVar[frozenset[str]] = FieldType.operators

    def coerce(self, value: Any) -> Any:
        return self.one(value)

    def key(self, stored: Any) -> Any:
        return Decimal(self.keys.index(stored))

    def from_key(self, key: Any) -> Any:
        return self.keys[int(key)]

    def key_sql(self, payload: str, number: int) -> str:
        cases = " ".join(f"WHEN '{key}' THEN {place}" for place, key in enumerate(self.keys))
        return f"(CASE {payload}->>'{number}' {cases} END)::numeric"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.keys)}


@dataclass(frozen=True, init=False)
class MultiEnum(_Choice):
    """Any number of several options; stored in the order of the list, each once."""

    type_name: ClassVar[str] = "multi_enum"
    python: ClassVar[Any] = list[str]
    operators: ClassVar[frozenset[str]] = frozenset({"eq", "ne", "any", "all", "none", "is_null"})

    def coerce(self, value: Any) -> Any:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueRefusedError(f"is {repr(value)[:60]}, not a list of options")
        chosen = {self.one(each) for each in value}
        return [key for key in self.keys if key in chosen]

    def json_schema(self) -> dict[str, Any]:
        items = {"type": "string", "enum": list(self.keys)}
        return {"type": "array", "items": items, "uniqueItems": True}
