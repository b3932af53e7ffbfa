# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The types of fields, by name."""

from typing import Any

from forktex_core.data.errors import DefinitionError, Problem, nearest
from forktex_core.data.types.choices import Enum, MultiEnum, Option
from forktex_core.data.types.field_type import FieldType, Kind, ValueRefusedError, unknown_setting
from forktex_core.data.types.links import AutoNumber, File, Reference, References, User, Uuid
from forktex_core.data.types.numbers import Boolean, DecimalNumber, Integer, Money, MoneyField
from forktex_core.data.types.structured import GeoPoint, Json
from forktex_core.data.types.texts import Email, LongText, Phone, Text, Url
from forktex_core.data.types.times import Date, Duration, Moment, Time

__all__ = [
    "FIELD_TYPES",
    "AutoNumber",
    "Boolean",
    "Date",
    "DecimalNumber",
    "Duration",
    "Email",
    "Enum",
    "FieldType",
    "File",
    "GeoPoint",
    "Integer",
    "Json",
    "Kind",
    "LongText",
    "Moment",
    "Money",
    "MoneyField",
    "MultiEnum",
    "Option",
    "Phone",
    "Reference",
    "References",
    "Text",
    "Time",
    "Url",
    "User",
    "Uuid",
    "ValueRefusedError",
    "type_from_json",
]

_ALL: tuple[type[FieldType], ...] = (
    Text,
    LongText,
    Integer,
    DecimalNumber,
    MoneyField,
    Boolean,
    Date,
    Moment,
    Time,
    Duration,
    Enum,
    MultiEnum,
    Email,
    Url,
    Phone,
    Uuid,
    Json,
    File,
    User,
    AutoNumber,
    GeoPoint,
    Reference,
    References,
)
FIELD_TYPES: dict[str, type[FieldType]] = {each.type_name: each for each in _ALL}


def type_from_json(given: dict[str, Any], path: str) -> FieldType:
    """The type that `{"type": "enum", "options": [...]}` names; raises `DefinitionError`."""
    settings = dict(given)
    name = settings.pop("type", None)
    kind = FIELD_TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        message = f"there is no type {name!r}; {nearest(str(name), FIELD_TYPES)}"
        raise DefinitionError([Problem(f"{path}.type", "type", message)])
    known = list(kind.__dataclass_fields__)
    unknown = [name for name in settings if name not in known]
    if unknown:
        message = unknown_setting(kind.type_name, unknown[0], known)
        raise DefinitionError([Problem(f"{path}.{unknown[0]}", "setting", message)])
    try:
        return kind.settings_from_json(settings)
    except TypeError as exc:
        raise DefinitionError([Problem(path, "setting", str(exc))]) from exc
