# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Numbers: integers, decimals, money, truth values. No decimal ever passes through a float."""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, ClassVar

from forktex_core.data.errors import Problem
from forktex_core.data.types.field_type import FieldType, Kind, ValueRefusedError

_ORDERED = FieldType.operators | frozenset({"lt", "lte", "gt", "gte", "between"})
_MOST_DIGITS = 38
_exact = Context(prec=_MOST_DIGITS + 12, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Integer(FieldType):
    """A whole number, of 64 bits unless `minimum` and `maximum` say less."""

    type_name: ClassVar[str] = "integer"
    kind: ClassVar[Kind | None] = "number"
    python: ClassVar[Any] = int
    operators: ClassVar[frozenset[str]] = _ORDERED
    minimum: int = -(2**63)
    maximum: int = 2**63 - 1

    def coerce(self, value: Any) -> Any:
        number = _whole(value)
        if not self.minimum <= number <= self.maximum:
            raise ValueRefusedError(f"is {number}, not from {self.minimum} to {self.maximum}")
        return number

    def key(self, stored: Any) -> Any:
        return Decimal(stored)

    def from_key(self, key: Any) -> Any:
        return int(key)

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}')::numeric"

    def problems(self, path: str) -> list[Problem]:
        ends = (self.minimum, self.maximum)
        whole = all(type(each) is int and -(2**63) <= each < 2**63 for each in ends)
        if whole and self.minimum <= self.maximum:
            return []
        return [
            Problem(path, "setting", "minimum and maximum are whole numbers of 64 bits, in order")
        ]

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value):
        return int(value)
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < 19:
        value = int(value) if value == int(value) else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueRefusedError(f"is {_shown(value)}, not a whole number")
    return value


def _shown(value: Any) -> str:
    return repr(value)[:60]


@dataclass(frozen=True)
class DecimalNumber(FieldType):
    """An exact decimal with `places` digits after the point; more are refused, never rounded."""

    type_name: ClassVar[str] = "decimal"
    kind: ClassVar[Kind | None] = "number"
    python: ClassVar[Any] = Decimal
    operators: ClassVar[frozenset[str]] = _ORDERED
    places: int = 2

    def coerce(self, value: Any) -> Any:
        return str(exact_decimal(value, self.places))

    def restore(self, stored: Any) -> Any:
        return Decimal(stored)

    def key(self, stored: Any) -> Any:
        return Decimal(stored)

    def from_key(self, key: Any) -> Any:
        return Decimal(key).quantize(Decimal(1).scaleb(-self.places), context=_exact)

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}')::numeric"

    def problems(self, path: str) -> list[Problem]:
        if type(self.places) is int and 0 <= self.places <= 12:
            return []
        return [Problem(f"{path}.places", "setting", "places is a number from 0 to 12")]

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["string", "number"], "pattern": r"^[+-]?[0-9]+(\.[0-9]+)?$"}


def exact_decimal(value: Any, places: int) -> Decimal:
    """`value` with exactly `places` digits after the point; a float counts as what it prints as."""
    if isinstance(value, float):
        value = repr(value)
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueRefusedError(f"is {_shown(value)}, not a number")
    if isinstance(value, str) and len(value) > 2 * _MOST_DIGITS:
        raise ValueRefusedError("is longer than any number")
    try:
        number = Decimal(value.strip() if isinstance(value, str) else value)
        if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
            raise ValueRefusedError(f"is {_shown(value)}, not a number of at most 38 digits")
        fixed = number.quantize(Decimal(1).scaleb(-places), context=_exact)
    except InvalidOperation as exc:
        raise ValueRefusedError(f"is {_shown(value)}, not a number of at most 38 digits") from exc
    if fixed != number:
        raise ValueRefusedError(f"is {number}: more than {places} digits after the point")
    return _exact.plus(fixed)  # without a negative zero


@dataclass(frozen=True)
class Money:
    """An amount in a currency, by its three-letter code."""

    amount: Decimal
    currency: str


@dataclass(frozen=True)
class MoneyField(FieldType):
    """An amount and its currency, of those in `currencies` if any are named.

    It sorts and compares by the amount; `currency` is compared as a field of its own.
    """

    type_name: ClassVar[str] = "money"
    kind: ClassVar[Kind | None] = "number"
    python: ClassVar[Any] = Money
    operators: ClassVar[frozenset[str]] = _ORDERED
    currencies: tuple[str, ...] = ()
    places: int = 2

    def coerce(self, value: Any) -> Any:
        if isinstance(value, Money):
            value = {"amount": value.amount, "currency": value.currency}
        if isinstance(value, str) and (match := re.fullmatch(r"\s*(\S+)\s+([A-Z]{3})\s*", value)):
            value = {"amount": match[1], "currency": match[2]}
        if not isinstance(value, dict) or set(value) != {"amount", "currency"}:
            raise ValueRefusedError('is no money ({"amount": "12.50", "currency": "EUR"})')
        currency = value["currency"]
        if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
            raise ValueRefusedError("has no currency of three capital letters")
        if self.currencies and currency not in self.currencies:
            raise ValueRefusedError(
                f"has the currency {currency}, not {' or '.join(self.currencies)}"
            )
        return {"amount": str(exact_decimal(value["amount"], self.places)), "currency": currency}

    def restore(self, stored: Any) -> Any:
        return Money(Decimal(stored["amount"]), stored["currency"])

    def key(self, stored: Any) -> Any:
        return Decimal(stored["amount"])

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->'{number}'->>'amount')::numeric"

    def problems(self, path: str) -> list[Problem]:
        found = DecimalNumber(self.places).problems(path)
        for code in self.currencies:
            if not re.fullmatch("[A-Z]{3}", str(code)):
                found.append(Problem(f"{path}.currencies", "setting", f"{code!r} is no currency"))
        return found

    @classmethod
    def settings_from_json(cls, settings: dict[str, Any]) -> "MoneyField":
        return cls(**settings | {"currencies": tuple(settings.get("currencies", ()))})

    def json_schema(self) -> dict[str, Any]:
        currency = {"enum": list(self.currencies)} if self.currencies else {"pattern": "^[A-Z]{3}$"}
        return {
            "type": "object",
            "properties": {
                "amount": DecimalNumber(self.places).json_schema(),
                "currency": {"type": "string", **currency},
            },
            "required": ["amount", "currency"],
            "additionalProperties": False,
        }


_TRUE, _FALSE = {"true", "yes", "1", "on"}, {"false", "no", "0", "off"}


@dataclass(frozen=True)
class Boolean(FieldType):
    """True or false; false sorts first."""

    type_name: ClassVar[str] = "boolean"
    kind: ClassVar[Kind | None] = "number"
    python: ClassVar[Any] = bool

    def coerce(self, value: Any) -> Any:
        if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
            return value.strip().lower() in _TRUE
        if isinstance(value, int) and value in {0, 1}:
            return bool(value)
        raise ValueRefusedError(f"is {_shown(value)}, neither true nor false")

    def key(self, stored: Any) -> Any:
        return Decimal(int(stored))

    def from_key(self, key: Any) -> Any:
        return bool(key)

    def key_sql(self, payload: str, number: int) -> str:
        return f"({payload}->>'{number}')::boolean::integer::numeric"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}
