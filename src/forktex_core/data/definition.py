# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a register is, as an immutable value, and the changes that make another of it.

Everything here is pure. A definition is stored as JSON; each change raises its version by one.
Fields have a number that never changes and is never used again: payloads are keyed by it, so
a rename touches no row, and a field that comes after a dropped one of the same name begins empty.

A field that is *indexed* has a column: a slot of the shared table or a column of the register's own
one. The column goes from `writing` (writers keep it, nobody reads it, rows are being filled) to
`ready` (queries use it).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from forktex_core.data.errors import DefinitionError, LimitError, Problem, nearest
from forktex_core.data.limits import Limits
from forktex_core.data.names import label_problems, name_problems
from forktex_core.data.types import (
    AutoNumber,
    Date,
    FieldType,
    Kind,
    Moment,
    References,
    ValueRefusedError,
    type_from_json,
)
from forktex_core.data.types.field_type import KEY_CHARACTERS

ColumnState = Literal["writing", "ready"]
SLOTS: Mapping[Kind, tuple[str, ...]] = {
    "text": ("t1", "t2", "t3", "t4", "t5", "t6"),
    "number": ("n1", "n2", "n3", "n4"),
    "moment": ("m1", "m2", "m3", "m4"),
    "uuid": ("u1", "u2", "u3"),
}
__all__ = ["KEY_CHARACTERS", "SLOTS", "Field", "FieldDefinition", "RegisterDefinition"]


@dataclass(frozen=True)
class Field:
    """A field as it is asked for: `Field("status", Enum(["draft", "paid"]), indexed=True)`.

    `type` is a field type or the name of one. `default` is a given value, used where a new row says
    nothing. `unique` values are held by one living row only. `indexed` fields are filtered and
    sorted by an index; `searchable` text is found by `.search(...)`.
    """

    name: str
    type: FieldType | str = "text"
    label: str = ""
    description: str = ""
    required: bool = False
    default: Any = None
    unique: bool = False
    indexed: bool = False
    searchable: bool = False

    @classmethod
    def from_json(cls, given: Any, path: str) -> Self:
        """The field that a JSON object describes; raises `DefinitionError`."""
        if not isinstance(given, Mapping):
            raise DefinitionError([Problem(path, "field", "a field is an object")])
        own = [name for name in cls.__dataclass_fields__ if name != "type"]
        settings = {name: value for name, value in given.items() if name not in own}
        if "name" not in given:
            raise DefinitionError([Problem(path, "field", "a field has a name")])
        said = {name: given[name] for name in own if name in given}
        return cls(type=type_from_json({"type": "text"} | settings, path), **said)


@dataclass(frozen=True)
class FieldDefinition:
    """A field of a register; `number` is its name for ever, `column` where its keys lie."""

    number: int
    name: str
    type: FieldType
    label: str = ""
    description: str = ""
    required: bool = False
    default: Any = None
    unique: bool = False
    indexed: bool = False
    searchable: bool = False
    column: str | None = None
    column_state: ColumnState | None = None

    @property
    def ready(self) -> bool:
        """Whether queries may use the column."""
        return self.column_state == "ready"

    def to_json(self) -> dict[str, Any]:
        """The field as JSON, without what is the default."""
        plain = FieldDefinition(self.number, self.name, self.type)
        found = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name != "type" and getattr(self, name) != getattr(plain, name)
        }
        return {"number": self.number, "name": self.name, **self.type.to_json(), **found}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Self:
        """The field that `to_json` wrote."""
        own = {name: given[name] for name in cls.__dataclass_fields__ if name in given}
        settings = {name: value for name, value in given.items() if name not in own}
        return cls(**own | {"type": type_from_json({"type": given["type"]} | settings, "")})


@dataclass(frozen=True)
class RegisterDefinition:
    """A register at one version."""

    id: int
    tenant: str
    name: str
    label: str = ""
    description: str = ""
    version: int = 1
    fields: tuple[FieldDefinition, ...] = ()
    unique_together: tuple[tuple[int, ...], ...] = ()
    time_field: str = "created_at"
    history: bool = True
    table: str | None = None
    next_number: int = 1
    used_columns: frozenset[str] = frozenset()
    by_name: Mapping[str, FieldDefinition] = field(init=False, repr=False, compare=False)
    by_number: Mapping[int, FieldDefinition] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {each.name: each for each in self.fields})
        object.__setattr__(self, "by_number", {each.number: each for each in self.fields})

    def to_json(self) -> dict[str, Any]:
        """What is stored of the definition beside the register's columns."""
        return {
            "label": self.label,
            "description": self.description,
            "fields": [each.to_json() for each in self.fields],
            "unique_together": [list(each) for each in self.unique_together],
            "time_field": self.time_field,
            "history": self.history,
            "next_number": self.next_number,
            "used_columns": sorted(self.used_columns),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any], **place: Any) -> Self:
        """The definition that `to_json` wrote; `place` is what the register's columns hold."""
        return cls(
            fields=tuple(FieldDefinition.from_json(each) for each in given["fields"]),
            unique_together=tuple(tuple(each) for each in given["unique_together"]),
            used_columns=frozenset(given["used_columns"]),
            **{key: given[key] for key in _PLAIN},
            **place,
        )

    def field(self, name: str) -> FieldDefinition:
        """The field `name`; raises `DefinitionError`."""
        try:
            return self.by_name[name]
        except KeyError:
            message = f"{self.name!r} has no field {name!r}; {nearest(name, self.by_name)}"
            raise DefinitionError([Problem(name, "unknown", message)]) from None

    def _next(self, **changes: Any) -> Self:
        return replace(self, version=self.version + 1, **changes)

    def with_field(self, asked: Field, limits: Limits) -> Self:
        """The definition with one field more, which has no value in any row yet."""
        if len(self.fields) >= limits.fields_per_register:
            raise LimitError(
                self.name, f"a register has at most {limits.fields_per_register} fields"
            )
        if asked.name in self.by_name:
            message = f"there is a field {asked.name!r} already; alter_field changes it"
            raise DefinitionError([Problem(asked.name, "exists", message)])
        made = checked_field(asked, self.next_number)
        column = self._free_column(made) if made.indexed else None
        state: ColumnState | None = None
        if column is not None:  # a column that held another field's values is filled first
            state = "writing" if column in self.used_columns or self.table else "ready"
        made = replace(made, column=column, column_state=state)
        return self._next(
            fields=(*self.fields, made),
            next_number=self.next_number + 1,
            used_columns=self.used_columns | ({column} if column else frozenset()),
        )

    def _free_column(self, made: FieldDefinition) -> str | None:
        if made.type.kind is None:
            return None
        if self.table is not None:
            return f"f_{made.number}"
        taken = {each.column for each in self.fields}
        free = [slot for slot in SLOTS[made.type.kind] if slot not in taken]
        fresh = [slot for slot in free if slot not in self.used_columns]
        return next(iter(fresh or free), None)

    def with_changes(self, name: str, changes: Mapping[str, Any]) -> Self:
        """The definition with a field altered; its type keeps its stored form."""
        old = self.field(name)
        unknown = [each for each in changes if each not in Field.__dataclass_fields__]
        if unknown:
            hint = nearest(unknown[0], Field.__dataclass_fields__)
            raise DefinitionError(
                [
                    Problem(
                        f"{name}.{unknown[0]}", "setting", f"a field has no {unknown[0]!r}; {hint}"
                    )
                ]
            )
        now = {key: getattr(old, key) for key in Field.__dataclass_fields__} | dict(changes)
        if now["name"] != name and now["name"] in self.by_name:
            message = f"there is a field {now['name']!r} already"
            raise DefinitionError([Problem(now["name"], "exists", message)])
        made = checked_field(Field(**now), old.number)
        if type(made.type) is not type(old.type):
            message = "alter_field keeps the type; change_type converts the rows' values"
            raise DefinitionError([Problem(f"{name}.type", "type", message)])
        column, state = old.column, old.column_state
        if made.indexed and column is None:
            column = self._free_column(made)
            state = "writing" if column else None
        elif not made.indexed:
            column, state = None, None
        elif made.type != old.type and _keys_move(old.type, made.type):
            state = "writing"
        made = replace(made, column=column, column_state=state)
        return self._replacing(made, column)

    def _replacing(self, made: FieldDefinition, column: str | None) -> Self:
        fields = tuple(made if each.number == made.number else each for each in self.fields)
        used = self.used_columns | ({column} if column else frozenset())
        time_field = self.time_field
        if time_field == self.by_number[made.number].name:
            time_field = made.name
        return self._next(fields=fields, used_columns=used, time_field=time_field)

    def with_column_ready(self, number: int) -> Self:
        """The definition with the field's column filled."""
        made = replace(self.by_number[number], column_state="ready")
        return self._replacing(made, made.column)

    def without_field(self, name: str) -> Self:
        """The definition without a field; its values stay in the rows, out of reach."""
        old = self.field(name)
        for group in self.unique_together:
            if old.number in group:
                message = f"{name!r} is part of a unique group; drop that first"
                raise DefinitionError([Problem(name, "used", message)])
        if self.time_field == name:
            message = f"{name!r} is the time field; choose another first"
            raise DefinitionError([Problem(name, "used", message)])
        return self._next(fields=tuple(each for each in self.fields if each != old))

    def with_settings(self, changes: Mapping[str, Any]) -> Self:
        """The definition with another label, description, time field or history."""
        known = {"label", "description", "time_field", "history", "unique_together"}
        for key in changes:
            if key not in known:
                message = f"a register has no {key!r}; {nearest(key, known)}"
                raise DefinitionError([Problem(key, "setting", message)])
        changed = dict(changes)
        if "unique_together" in changed:
            changed["unique_together"] = self._groups(changed["unique_together"])
        made = self._next(**changed)
        made.check_settings()
        return made

    def _groups(self, groups: Iterable[Iterable[str]]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sorted(self.field(name).number for name in each)) for each in groups)

    def check_settings(self) -> None:
        """Raise `DefinitionError` for a label or time field that cannot be."""
        found = label_problems(self.label, "label")
        if self.history not in {True, False}:
            found.append(Problem("history", "setting", "history is true or false"))
        if self.time_field not in {"created_at", "updated_at"}:
            kind = self.by_name.get(self.time_field)
            if kind is None or not isinstance(kind.type, Date | Moment):
                message = f"{self.time_field!r} is no date or datetime field of the register"
                found.append(Problem("time_field", "setting", message))
        found += [
            Problem("unique_together", "setting", "a unique group has two fields or more")
            for each in self.unique_together
            if len(set(each)) < 2
        ]
        if found:
            raise DefinitionError(found)


_PLAIN = ("label", "description", "time_field", "history", "next_number")


def _keys_move(old: FieldType, new: FieldType) -> bool:
    """Whether rows that hold the same values now have other keys."""
    keys = (getattr(each, "keys", ()) for each in (old, new))
    before, after = keys
    return after[: len(before)] != before


def checked_field(asked: Field, number: int) -> FieldDefinition:
    """The field that `asked` describes, with the number; raises `DefinitionError`."""
    path = str(asked.name)
    kind = (
        asked.type
        if isinstance(asked.type, FieldType)
        else type_from_json({"type": asked.type}, path)
    )
    found = name_problems(asked.name, path) + label_problems(asked.label, f"{path}.label")
    found += kind.problems(path)
    for flag in ("required", "unique", "indexed", "searchable"):
        if not isinstance(getattr(asked, flag), bool):
            found.append(Problem(f"{path}.{flag}", "setting", f"{flag} is true or false"))
    if asked.indexed and kind.kind is None:
        found.append(
            Problem(f"{path}.indexed", "setting", f"{kind.type_name} fields have no index")
        )
    if asked.unique and (kind.kind is None or isinstance(kind, References)):
        found.append(
            Problem(f"{path}.unique", "setting", f"{kind.type_name} fields can't be unique")
        )
    if asked.searchable and kind.kind != "text":
        found.append(Problem(f"{path}.searchable", "setting", "only text is searched"))
    default = asked.default
    if not found and default is not None:
        found += _default_problems(kind, default, path)
    if found:
        raise DefinitionError(found)
    if default is not None and not is_dynamic(default):
        default = kind.coerce(default)
    return FieldDefinition(
        number,
        asked.name,
        kind,
        asked.label,
        asked.description,
        asked.required,
        default,
        asked.unique,
        asked.indexed,
        asked.searchable,
    )


NOW, TODAY = "now", "today"


def is_dynamic(default: Any) -> bool:
    """Whether a default is taken anew for each row."""
    return isinstance(default, str) and default in {NOW, TODAY}


def _default_problems(kind: FieldType, default: Any, path: str) -> list[Problem]:
    if isinstance(kind, AutoNumber):
        return [Problem(f"{path}.default", "default", "an auto-number has no default")]
    if isinstance(kind, Moment | Date) and is_dynamic(default):
        return []
    try:
        kind.coerce(default)
    except ValueRefusedError as exc:
        return [Problem(f"{path}.default", "default", f"the default {exc}")]
    return []


def default_value(made: FieldDefinition, now: datetime) -> Any:
    """The stored default of a field for a row made at `now`."""
    if isinstance(made.type, Moment) and is_dynamic(made.default):
        return made.type.coerce(now)
    if isinstance(made.type, Date) and is_dynamic(made.default):
        return now.astimezone(UTC).date().isoformat()
    return made.default
