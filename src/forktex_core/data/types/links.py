# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Identifiers of things inside and outside of the store: UUIDs, files, users, rows, numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal
from uuid import UUID

from forktex_core.data.errors import Problem
from forktex_core.data.names import name_problems
from forktex_core.data.types.field_type import FieldType, Kind, ValueRefusedError, clean_text
from forktex_core.data.types.texts import _TextType

OnDelete = Literal["restrict", "set_null", "cascade"]


@dataclass(frozen=True)
class Uuid(FieldType):
    """A UUID."""

    type_name: ClassVar[str] = "uuid"
    kind: ClassVar[Kind | None] = "uuid"
    python: ClassVar[Any] = UUID

    def coerce(self, value: Any) -> Any:
        return str(as_uuid(value))

    def restore(self, stored: Any) -> Any:
        return UUID(stored)

    def key(self, stored: Any) -> Any:
        return UUID(stored)

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}')::uuid"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}


def as_uuid(value: Any) -> UUID:
    """The UUID that `value`, or the id of the row that it is, stands for."""
    value = getattr(value, "id", value) if not isinstance(value, UUID) else value
    if isinstance(value, UUID):
        return UUID(int=value.int)
    try:
        if isinstance(value, str) and len(value) <= 45:
            return UUID(value)
    except ValueError:
        pass
    raise ValueRefusedError(f"is {repr(value)[:60]}, not a UUID")


@dataclass(frozen=True)
class Reference(Uuid):
    """A row of the register `register`, by its id; made by `add_relationship`.

    `on_delete` says what happens to this row when that one is deleted: `restrict` refuses it,
    `set_null` empties the field, `cascade` deletes this row too.
    """

    type_name: ClassVar[str] = "reference"
    register: str = ""
    on_delete: OnDelete = "restrict"

    def problems(self, path: str) -> list[Problem]:
        found = name_problems(self.register, f"{path}.register")
        if self.on_delete not in {"restrict", "set_null", "cascade"}:
            message = f"{self.on_delete!r} is none of restrict, set_null, cascade"
            found.append(Problem(f"{path}.on_delete", "setting", message))
        return found


@dataclass(frozen=True)
class References(FieldType):
    """Any number of rows of the register `register`; the links lie in a table of their own."""

    type_name: ClassVar[str] = "references"
    python: ClassVar[Any] = list[UUID]
    operators: ClassVar[frozenset[str]] = frozenset({"any", "all", "none", "is_null"})
    register: str = ""
    on_delete: OnDelete = "set_null"

    def coerce(self, value: Any) -> Any:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueRefusedError(f"is {repr(value)[:60]}, not a list of row ids")
        return list(dict.fromkeys(str(as_uuid(each)) for each in value))

    def restore(self, stored: Any) -> Any:
        return [UUID(each) for each in stored]

    def problems(self, path: str) -> list[Problem]:
        return Reference(self.register, self.on_delete).problems(path)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "format": "uuid"}}


@dataclass(frozen=True)
class User(_TextType):
    """A user of the service, by whatever text the service knows them by."""

    type_name: ClassVar[str] = "user"

    def coerce(self, value: Any) -> Any:
        if isinstance(value, UUID | int) and not isinstance(value, bool):
            value = str(value)
        return clean_text(value, longest=200)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": 200}


@dataclass(frozen=True)
class File(_TextType):
    """A file, by its key in the service's storage."""

    type_name: ClassVar[str] = "file"

    def coerce(self, value: Any) -> Any:
        key = clean_text(value, longest=1_024)
        if not key or key.startswith("/") or ".." in key.split("/"):
            raise ValueRefusedError(f"is {key[:60]!r}, not the key of a stored file")
        return key

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": 1_024}


@dataclass(frozen=True)
class AutoNumber(FieldType):
    """A number that the store gives, rising by one from `start`; a failed insert leaves a gap."""

    type_name: ClassVar[str] = "auto_number"
    kind: ClassVar[Kind | None] = "number"
    python: ClassVar[Any] = int
    operators: ClassVar[frozenset[str]] = FieldType.operators | frozenset(
        {"lt", "lte", "gt", "gte", "between"}
    )
    start: int = 1

    def coerce(self, value: Any) -> Any:
        if type(value) is int and 0 <= value < 2**63:
            return value
        raise ValueRefusedError("is given by the store")

    def key(self, stored: Any) -> Any:
        return Decimal(stored)

    def from_key(self, key: Any) -> Any:
        return int(key)

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}')::numeric"

    def problems(self, path: str) -> list[Problem]:
        if type(self.start) is int and 0 <= self.start < 2**62:
            return []
        return [Problem(f"{path}.start", "setting", "start is a number from 0 on")]

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "readOnly": True}
