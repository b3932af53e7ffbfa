# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From what a user gives to what a row holds. Pure.

A payload maps field numbers to stored values; a text whose folded form differs has it beside it,
under `"7~"`. What is null is not in the payload. The keys of indexed fields go into columns, the
values of unique fields into a table of their own, both derived here and nowhere else.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from forktex_core.data.definition import FieldDefinition, RegisterDefinition, default_value
from forktex_core.data.errors import InvalidRowError, Problem, nearest
from forktex_core.data.limits import Limits
from forktex_core.data.types import AutoNumber, Reference, References, ValueRefusedError
from forktex_core.data.types.field_type import fold
from forktex_core.data.types.texts import TWIN, _TextType

_SEARCHED_CHARACTERS = 20_000
_LONGEST_UNIQUE = 300
Payload = dict[str, Any]


@dataclass(frozen=True)
class Unique:
    """A value that one living row only may hold: the fields' numbers, and the value as text."""

    fields: str
    value: str


def new_payload(
    definition: RegisterDefinition, given: Mapping[str, Any], now: datetime, limits: Limits
) -> Payload:
    """The payload of a new row; raises `InvalidRowError` with everything that is wrong."""
    problems = _unknown(definition, given)
    payload: Payload = {}
    for each in definition.fields:
        if isinstance(each.type, AutoNumber):
            if given.get(each.name) is not None:
                message = "an auto-number is given by the store"
                problems.append(Problem(each.name, "read_only", message))
            continue
        if given.get(each.name) is None and each.default is not None and each.name not in given:
            _put(payload, each, default_value(each, now))
        else:
            _take(payload, each, given.get(each.name), problems)
    _finish(definition, payload, problems, limits)
    return payload


def changed_payload(
    definition: RegisterDefinition, old: Payload, given: Mapping[str, Any], limits: Limits
) -> Payload:
    """The payload after a change of some fields; raises `InvalidRowError`."""
    problems = _unknown(definition, given)
    payload = dict(old)
    for each in definition.fields:
        if each.name not in given:
            continue
        if isinstance(each.type, AutoNumber):
            if given[each.name] != payload.get(str(each.number)):
                message = "an auto-number never changes"
                problems.append(Problem(each.name, "read_only", message))
            continue
        payload.pop(str(each.number), None)
        payload.pop(f"{each.number}{TWIN}", None)
        _take(payload, each, given[each.name], problems)
    _finish(definition, payload, problems, limits)
    return payload


def _unknown(definition: RegisterDefinition, given: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem(
            str(name),
            "unknown",
            f"there is no field {name!r}; {nearest(str(name), definition.by_name)}",
        )
        for name in given
        if name not in definition.by_name
    ]


def _take(payload: Payload, each: FieldDefinition, value: Any, problems: list[Problem]) -> None:
    if value is None or (value == "" and not each.required and each.type.kind != "text"):
        if each.required:
            problems.append(Problem(each.name, "required", "a value is required"))
        return
    try:
        stored = each.type.coerce(value)
    except ValueRefusedError as exc:
        problems.append(Problem(each.name, "value", f"the value {exc}"))
        return
    if each.required and stored in ("", []):
        problems.append(Problem(each.name, "required", "a value is required"))
        return
    _put(payload, each, stored)


def _put(payload: Payload, each: FieldDefinition, stored: Any) -> None:
    if stored is None:
        return
    payload[str(each.number)] = stored
    if isinstance(each.type, _TextType) and (folded := fold(stored)) != stored:
        payload[f"{each.number}{TWIN}"] = folded


def _finish(
    definition: RegisterDefinition, payload: Payload, problems: list[Problem], limits: Limits
) -> None:
    if not problems and len(json.dumps(payload)) > limits.row_bytes:
        message = f"a row has at most {limits.row_bytes:,} bytes"
        problems.append(Problem("", "limit", message))
    if problems:
        raise InvalidRowError(definition.name, problems)


def restored(definition: RegisterDefinition, payload: Payload) -> dict[str, Any]:
    """The values of a row by name, as Python's."""
    found = {}
    for each in definition.fields:
        stored = payload.get(str(each.number))
        found[each.name] = None if stored is None else each.type.restore(stored)
    return found


def key_of(each: FieldDefinition, payload: Payload) -> Any:
    """What the row sorts by in a field, or None."""
    stored = payload.get(str(each.number))
    return None if stored is None else each.type.key(stored)


def uniques(definition: RegisterDefinition, payload: Payload) -> set[Unique]:
    """Every value that no other living row may hold. A group with a null in it holds none."""
    groups = [(each.number,) for each in definition.fields if each.unique]
    found = set()
    for group in (*groups, *definition.unique_together):
        stored = [payload.get(str(number)) for number in group]
        if None not in stored:
            text = json.dumps(stored, sort_keys=True, ensure_ascii=False)
            if len(text) > _LONGEST_UNIQUE:
                text = "#" + hashlib.sha256(text.encode()).hexdigest()
            found.add(Unique(",".join(map(str, group)), text))
    return found


def search_text(definition: RegisterDefinition, payload: Payload) -> str | None:
    """The words of the searchable fields, folded and without accents; None when there are none."""
    parts = [
        payload[str(each.number)]
        for each in definition.fields
        if each.searchable and str(each.number) in payload
    ]
    return plain_words("\n".join(parts))[:_SEARCHED_CHARACTERS] if parts else None


def plain_words(text: str) -> str:
    """Text as it is searched: folded, without accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in apart if not unicodedata.combining(each))


def references(
    definition: RegisterDefinition, payload: Payload
) -> list[tuple[FieldDefinition, list[str]]]:
    """The rows that this row refers to, by field."""
    found = []
    for each in definition.fields:
        stored = payload.get(str(each.number))
        if isinstance(each.type, Reference) and stored is not None:
            found.append((each, [stored]))
        elif isinstance(each.type, References) and stored:
            found.append((each, list(stored)))
    return found
