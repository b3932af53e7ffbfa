# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Values with parts: JSON of any shape, points on the globe."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from forktex_core.data.types.field_type import FieldType, ValueRefusedError

_DEEPEST = 32


@dataclass(frozen=True)
class Json(FieldType):
    """Any JSON value, of at most 64 kB and 32 levels."""

    type_name: ClassVar[str] = "json"
    python: ClassVar[Any] = Any
    operators: ClassVar[frozenset[str]] = frozenset({"eq", "ne", "is_null"})

    def coerce(self, value: Any) -> Any:
        _check_depth(value, _DEEPEST)
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise ValueRefusedError(f"is no JSON: {exc}") from exc
        if len(text) > 65_536:
            raise ValueRefusedError("is more than 64 kB of JSON")
        if "\\u0000" in text or "\\ud8" in text.lower():
            raise ValueRefusedError("contains a NUL or half a character, which no database holds")
        return json.loads(text)

    def json_schema(self) -> dict[str, Any]:
        return {}


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise ValueRefusedError(f"is JSON of more than {_DEEPEST} levels")
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list | tuple):
        for each in parts:
            _check_depth(each, left - 1)


@dataclass(frozen=True)
class GeoPoint(FieldType):
    """A point on the globe, in degrees: latitude, then longitude; to 7 digits (a centimetre)."""

    type_name: ClassVar[str] = "geo_point"
    python: ClassVar[Any] = tuple[float, float]
    operators: ClassVar[frozenset[str]] = frozenset({"eq", "ne", "near", "is_null"})

    def coerce(self, value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"lat", "lon"}:
            value = (value["lat"], value["lon"])
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueRefusedError('is no point ({"lat": 44.43, "lon": 26.10})')
        latitude, longitude = (_degrees(*each) for each in zip(value, (90, 180), strict=True))
        return {"lat": latitude, "lon": longitude}

    def restore(self, stored: Any) -> Any:
        return (float(stored["lat"]), float(stored["lon"]))

    def json_schema(self) -> dict[str, Any]:
        number = {"type": "number"}
        return {
            "type": "object",
            "properties": {
                "lat": number | {"minimum": -90, "maximum": 90},
                "lon": number | {"minimum": -180, "maximum": 180},
            },
            "required": ["lat", "lon"],
            "additionalProperties": False,
        }


def _degrees(value: Any, most: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueRefusedError(f"has {repr(value)[:60]} where degrees belong")
    if not -most <= value <= most:
        raise ValueRefusedError(f"has {value} degrees, more than {most}")
    return round(float(value), 7) + 0.0
