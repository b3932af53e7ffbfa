# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Values to JSON and back, by their annotation.

With a type, pydantic writes and reads the value, so a dataclass, a datetime or a Decimal comes back
as what it was. Without one only what JSON itself has is accepted: a tuple that would come back as a
list is an error rather than a surprise. Nothing is ever pickled.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from .errors import CacheValueError

_JSON_TYPES = frozenset({dict, list, str, int, float, bool, type(None)})
_MEND = "state the type: annotate what the function returns, or pass kind="


class Codec[T]:
    """Writes values of one type as JSON and reads them back."""

    __slots__ = ("_dump", "_load")

    def __init__(self, dump: Callable[[T], bytes], load: Callable[[bytes], T]) -> None:
        self._dump = dump
        self._load = load

    def encode(self, key: str, value: T) -> bytes:
        """The value as JSON.

        Raises:
            CacheValueError: the value isn't of the type, or has no JSON form.
        """
        try:
            return self._dump(value)
        except (ValueError, TypeError, RecursionError) as exc:
            raise CacheValueError(key, f"a {type(value).__name__} can't be stored: {exc}") from exc

    def decode(self, key: str, data: bytes) -> T:
        """The value that was stored.

        Raises:
            CacheValueError: what is stored isn't JSON of the type.
        """
        try:
            return self._load(data)
        except ValueError as exc:
            raise CacheValueError(key, f"the stored value can't be read: {exc}") from exc


def codec_for(kind: Any) -> Codec[Any]:
    """The codec of an annotation; for `Any` and `object`, of what JSON itself has."""
    if kind is Any or kind is object:
        return _PLAIN
    try:
        return _typed(kind)
    except TypeError:  # an unhashable annotation, such as Annotated with a list
        return _typed.__wrapped__(kind)


def codec_of_value(value: object) -> Codec[Any]:
    """The codec of a value whose type nobody stated: that of its class."""
    return _PLAIN if type(value) in _JSON_TYPES else codec_for(type(value))


@lru_cache(maxsize=512)
def _typed(kind: Any) -> Codec[Any]:
    # Imported at first use: pydantic costs more to import than the rest of the module together.
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    binary = ConfigDict(
        ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )
    try:
        adapter = TypeAdapter(kind, config=binary)
    except PydanticUserError:  # a model or dataclass brings a configuration of its own
        adapter = TypeAdapter(kind)
    serializer = adapter.serializer
    return Codec(
        lambda value: serializer.to_json(value, warnings="error"), adapter.validator.validate_json
    )


def _dump_plain(value: object) -> bytes:
    _refuse_lossy(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse_lossy(value: object) -> None:
    kind = type(value)
    if kind is list:
        for item in cast("list[object]", value):
            _refuse_lossy(item)
    elif kind is dict:
        for name, item in cast("dict[object, object]", value).items():
            if type(name) is not str:
                raise TypeError(f"JSON has no keys of type {type(name).__name__}; {_MEND}")
            _refuse_lossy(item)
    elif kind not in _JSON_TYPES:
        raise TypeError(f"JSON has no {kind.__name__}; {_MEND}")


def _load_plain(data: bytes) -> object:
    return _DECODER.decode(data.decode())  # json.loads would guess the encoding first


_DECODER = json.JSONDecoder()
_PLAIN: Codec[Any] = Codec(_dump_plain, _load_plain)
