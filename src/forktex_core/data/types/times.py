# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Dates, moments, times of day, durations."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from forktex_core.data.types.field_type import FieldType, Kind, ValueRefusedError

_ORDERED = FieldType.operators | frozenset({"lt", "lte", "gt", "gte", "between"})
_DATED = _ORDERED | frozenset({"within"})


@dataclass(frozen=True)
class Date(FieldType):
    """A day of the calendar."""

    type_name: ClassVar[str] = "date"
    kind: ClassVar[Kind | None] = "moment"
    python: ClassVar[Any] = date
    operators: ClassVar[frozenset[str]] = _DATED

    def coerce(self, value: Any) -> Any:
        if isinstance(value, datetime):
            raise ValueRefusedError("is a moment, not a day; give its .date()")
        if isinstance(value, date):
            return value.isoformat()
        return _parsed(value, date.fromisoformat, "a day (2026-03-31)").isoformat()

    def restore(self, stored: Any) -> Any:
        return date.fromisoformat(stored)

    def key(self, stored: Any) -> Any:
        return datetime.fromisoformat(stored).replace(tzinfo=UTC)

    def from_key(self, key: Any) -> Any:
        return key.date()

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}' || ' 00:00+00')::timestamptz"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date"}


@dataclass(frozen=True)
class Moment(FieldType):
    """A point in time, to the microsecond; stored in UTC. A value without an offset is refused."""

    type_name: ClassVar[str] = "datetime"
    kind: ClassVar[Kind | None] = "moment"
    python: ClassVar[Any] = datetime
    operators: ClassVar[frozenset[str]] = _DATED

    def coerce(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            value = _parsed(value, datetime.fromisoformat, "a moment (2026-03-31T12:00:00Z)")
        if value.tzinfo is None:
            raise ValueRefusedError("has no time zone; write 2026-03-31T12:00:00Z or +02:00")
        try:
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        except OverflowError as exc:
            raise ValueRefusedError("is outside the years 1 to 9999 in UTC") from exc

    def restore(self, stored: Any) -> Any:
        return datetime.fromisoformat(stored)

    def key(self, stored: Any) -> Any:
        return datetime.fromisoformat(stored)

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}')::timestamptz"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


@dataclass(frozen=True)
class Time(FieldType):
    """A time of day without a zone, to the microsecond."""

    type_name: ClassVar[str] = "time"
    kind: ClassVar[Kind | None] = "text"
    python: ClassVar[Any] = time
    operators: ClassVar[frozenset[str]] = _ORDERED

    def coerce(self, value: Any) -> Any:
        if not isinstance(value, time):
            value = _parsed(value, time.fromisoformat, "a time of day (13:45)")
        if value.tzinfo is not None:
            raise ValueRefusedError("has a time zone; a time of day has none")
        return value.isoformat(timespec="microseconds")

    def restore(self, stored: Any) -> Any:
        return time.fromisoformat(stored)

    def from_key(self, key: Any) -> Any:
        return time.fromisoformat(key)

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}') COLLATE \"C\""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "time"}


def _parsed(value: Any, parse: Any, what: str) -> Any:
    if not isinstance(value, str) or len(value) > 64:
        raise ValueRefusedError(f"is {repr(value)[:60]}, not {what}")
    try:
        return parse(value.strip())
    except ValueError as exc:
        raise ValueRefusedError(f"is {value!r}, not {what}") from exc


_ISO = re.compile(
    r"(-?)P(?:(\d{1,9})W)?(?:(\d{1,9})D)?"
    r"(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,6})?)S)?)?"
)
_CLOCK = re.compile(r"(-?)(\d{1,9}):([0-5]\d)(?::([0-5]\d(?:\.\d{1,6})?))?")


@dataclass(frozen=True)
class Duration(FieldType):
    """A length of time, to the microsecond; stored as a number of microseconds."""

    type_name: ClassVar[str] = "duration"
    kind: ClassVar[Kind | None] = "number"
    python: ClassVar[Any] = timedelta
    operators: ClassVar[frozenset[str]] = _ORDERED

    def coerce(self, value: Any) -> Any:
        try:
            if not isinstance(value, timedelta):
                value = _length(value)
        except OverflowError as exc:
            raise ValueRefusedError("is longer than 2.7 million years") from exc
        return value // timedelta(microseconds=1)

    def restore(self, stored: Any) -> Any:
        return timedelta(microseconds=stored)

    def key(self, stored: Any) -> Any:
        return Decimal(stored)

    def from_key(self, key: Any) -> Any:
        return timedelta(microseconds=int(key))

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}')::numeric"

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["string", "number"], "description": "ISO 8601, H:MM:SS, or seconds"}


def _length(value: Any) -> timedelta:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        seconds = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if seconds.is_finite() and abs(seconds) < 10**14:
            return timedelta(microseconds=round(seconds * 1_000_000))
    if isinstance(value, str) and len(value) <= 64:
        if (match := _ISO.fullmatch(value)) and len(value.strip("-PT")) > 0:
            sign, weeks, days, hours, minutes, rest = match.groups()
        elif match := _CLOCK.fullmatch(value):
            sign, hours, minutes, rest = match.groups()
            weeks = days = None
        else:
            raise ValueRefusedError(f"is {value!r}, not a duration (PT1H30M, 1:30:00, or seconds)")
        whole = timedelta(
            weeks=int(weeks or 0),
            days=int(days or 0),
            hours=int(hours or 0),
            minutes=int(minutes or 0),
        )
        micros = round(Decimal(rest or 0) * 1_000_000)
        return (whole + timedelta(microseconds=micros)) * (-1 if sign else 1)
    raise ValueRefusedError(f"is {repr(value)[:60]}, not a duration (PT1H30M, 1:30:00, or seconds)")
