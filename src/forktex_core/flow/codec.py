# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Values to JSON text and back, by annotation.

Without an annotation (or with ``Any``) only what JSON itself has may pass: a date that silently
came back as a string would differ between the first execution and the replay. With one, pydantic
validates and restores. The body of a workflow always sees the *decoded* value, on the first
execution too, so what it sees can't depend on a crash.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from inspect import Parameter, signature
from typing import Any

from forktex_core.flow.errors import DefinitionError, PayloadError, PayloadTooLargeError

_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=True, separators=(",", ":")
)
_encode_plain = _encoder.encode
_decode_plain = json.JSONDecoder().decode
_SCALARS = {None: "null", True: "true", False: "false"}
_EXACT = (int, str, bool)  # JSON has these itself: a value of just that type needs no pydantic
_UNTYPED = (Any, Parameter.empty, None, dict, list, dict[str, Any], list[Any], object)


class Shape:
    """How one parameter or return value travels: by pydantic for a real annotation, as plain JSON
    for none.
    """

    __slots__ = ("_adapter", "_exact", "annotation")

    def __init__(self, annotation: Any = Parameter.empty) -> None:
        self.annotation = annotation
        self._exact = annotation if annotation in _EXACT else None
        self._adapter: Any = None if annotation in _UNTYPED else _adapter(annotation)

    def validate(self, value: Any, what: str) -> Any:
        """Check a caller's value against the annotation; return it in the annotated type."""
        if self._adapter is None:
            return value
        try:
            return self._adapter.validate_python(value)
        except ValueError as error:
            raise PayloadError(
                f"{what} doesn't fit {_name(self.annotation)}: {_reasons(error)}"
            ) from error

    def encode(self, value: Any, what: str, limit: int) -> str:
        """Return ``value`` as JSON text; raise PayloadError naming ``what``."""
        if self._adapter is None or type(value) is self._exact:
            text = _plain(value, what)
        else:
            try:
                text = self._adapter.dump_json(value, warnings="error").decode()
            except (ValueError, TypeError) as error:
                raise PayloadError(
                    f"{what} is {type(value).__name__!r}, not what {_name(self.annotation)} "
                    f"promises: {_reasons(error)}"
                ) from error
        if len(text) > limit or (not text.isascii() and len(_utf8(text, what)) > limit):
            raise PayloadTooLargeError(what, len(_utf8(text, what)), limit)
        return text

    def decode(self, text: str | None, what: str) -> Any:
        """Return the value that ``text`` stands for."""
        if text is None:
            return None
        if self._adapter is None:
            return _decode_plain(text)
        try:
            return self._adapter.validate_json(text)
        except ValueError as error:
            raise PayloadError(
                f"{what} was recorded in a form that {_name(self.annotation)} doesn't take: "
                f"{_reasons(error)}"
            ) from error


ANY = Shape()


def parameter_shape(fn: Callable[..., Any], parameter: Parameter) -> Shape:
    """Return the Shape of a parameter of ``fn``."""
    return _resolved(fn, parameter.annotation, f"parameter {parameter.name!r}")


def return_shape(fn: Callable[..., Any]) -> Shape:
    """Return the Shape of what ``fn`` returns."""
    return _resolved(fn, signature(fn).return_annotation, "return value")


def _resolved(fn: Callable[..., Any], annotation: Any, what: str) -> Shape:
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(fn, "__globals__", {}))  # noqa: S307 - the author's own annotation
        except Exception as error:
            raise DefinitionError(
                f"{getattr(fn, '__qualname__', fn)}: the annotation {annotation!r} of its "
                f"{what} can't be resolved "
                f"({error}): import that type at run time, not only under TYPE_CHECKING"
            ) from error
    try:
        return Shape(annotation)
    except Exception as error:
        raise DefinitionError(
            f"{getattr(fn, '__qualname__', fn)}: its {what} is annotated {_name(annotation)}, "
            "which can't be stored: "
            f"{error}"
        ) from error


@lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> Any:
    from pydantic import PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(
            annotation, config={"ser_json_bytes": "base64", "val_json_bytes": "base64"}
        )
    except PydanticUserError:  # a model brings a configuration of its own
        return TypeAdapter(annotation)


def _plain(value: Any, what: str) -> str:
    if value is None or value is True or value is False:
        return _SCALARS[value]
    if type(value) is int:
        return int.__repr__(value)
    try:
        text = _encode_plain(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"{what} can't be carried as JSON: {_reasons(error)}; annotate its type, or convert it"
        ) from error
    if type(value) in (dict, list, tuple) and (path := _odd_key(value, "")) is not None:
        raise PayloadError(
            f"{what} has a key at {path} that is no string: JSON would turn it into one"
        )
    return text


def _odd_key(value: Any, path: str) -> str | None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if type(key) is not str:
                return f"{path or '/'}[{key!r}]"
            if type(inner) in (dict, list, tuple) and (found := _odd_key(inner, f"{path}/{key}")):
                return found
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            if type(inner) in (dict, list, tuple) and (
                found := _odd_key(inner, f"{path}/{number}")
            ):
                return found
    return None


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise PayloadError(
            f"{what} holds a lone surrogate, which no database stores: clean the text first"
        ) from error


def _name(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation)


def _reasons(error: Exception) -> str:
    details = getattr(error, "errors", None)
    if details is None:
        return str(error).split("\n")[0][:500]
    found = [
        f"{'.'.join(map(str, d['loc'])) or 'value'}: {d['msg']}"
        for d in details(include_url=False)[:5]
    ]
    return "; ".join(found)
