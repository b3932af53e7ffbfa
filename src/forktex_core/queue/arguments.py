# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A function's arguments and result as JSON, by its annotations.

The caller's side is strict: what doesn't fit an annotation is refused before anything is enqueued.
The worker's
side reads JSON, so a datetime comes back from its text. Arguments travel by name, and defaults
don't travel: a
parameter with a default can be added while jobs are waiting.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, get_type_hints

from forktex_core.queue.errors import ConfigurationError, WrongArgumentsError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


class Arguments:
    """The codec of one function's arguments and result."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function
        self.signature = inspect.signature(function)
        kinds = {name: one.kind for name, one in self.signature.parameters.items()}
        self._by_name = not any(
            kind in POSITIONAL or kind is inspect.Parameter.VAR_KEYWORD for kind in kinds.values()
        )
        self._order = [
            name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """JSON of a call's arguments. Raises WrongArgumentsError."""
        try:
            given = self._named(args, kwargs)
            checked = self._codec.validator.validate_python(given, strict=True)
            return self._codec.serializer.to_json(checked)
        except (TypeError, ValueError) as error:  # pydantic's own are ValueErrors
            raise WrongArgumentsError(self.name, self._why(args, kwargs, error)) from error

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and named arguments of a call. Raises WrongArgumentsError."""
        try:
            values = self._codec.validator.validate_json(data)
        except ValueError as error:
            raise WrongArgumentsError(self.name, complaints(error)) from error
        if self._by_name:
            return (), values
        bound = inspect.BoundArguments(self.signature, values)
        return bound.args, bound.kwargs

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """A call's arguments by name. What is missing or too much pydantic finds as well, sooner
        than `inspect`; TypeError for what it wouldn't see."""
        if not args and self._by_name:
            return kwargs
        if self._by_name and not kwargs and len(args) <= len(self._order):
            return dict(zip(self._order, args, strict=False))
        return self.signature.bind(*args, **kwargs).arguments

    def _why(self, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> str:
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as mismatch:
            return f"{mismatch}; it is {self.name}{self.signature}"
        return complaints(error)

    def encode_result(self, value: Any) -> Any:
        """A result as JSON values. Raises ValueError when the annotation has no JSON for it."""
        return self._result.dump_python(value, mode="json", warnings="error")

    def decode_result(self, value: Any) -> Any:
        """The result that `encode_result` was given."""
        return self._result.validate_python(value, strict=False)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self._function, include_extras=True)
        except NameError as error:
            raise ConfigurationError(
                f"job {self.name!r}: an annotation names what can't be found ({error}): "
                "import it where the function is defined, at run time too"
            ) from error

    @cached_property
    def _codec(self) -> "TypeAdapter[dict[str, Any]]":
        fields = {
            name: self._field(parameter) for name, parameter in self.signature.parameters.items()
        }
        make: Any = TypedDict  # its fields are known at run time only
        return build(self.name, make(self.name, fields))

    @cached_property
    def _result(self) -> "TypeAdapter[Any]":
        return build(self.name, self._hints.get("return", Any))

    def _field(self, parameter: inspect.Parameter) -> Any:
        hint = self._hints.get(parameter.name, Any)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return NotRequired[tuple.__class_getitem__((hint, ...))]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return NotRequired[dict.__class_getitem__((str, hint))]
        return hint if parameter.default is inspect.Parameter.empty else NotRequired[hint]


def build(name: str, kind: Any) -> "TypeAdapter[Any]":
    """The codec of a type; ConfigurationError when there is none."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    if isinstance(kind, type) and kind.__name__ == name and hasattr(kind, "__total__"):
        config = ConfigDict(
            extra="forbid",
            ser_json_bytes="base64",
            val_json_bytes="base64",
            ser_json_inf_nan="strings",
        )
        setattr(kind, "__pydantic_config__", config)  # noqa: B010 - pydantic's way to configure a TypedDict
    try:
        return TypeAdapter(kind)
    except PydanticUserError as error:
        raise ConfigurationError(
            f"job {name!r}: there is no JSON for one of its annotations: {error.message}"
        ) from error


def complaints(error: Exception) -> str:
    """What pydantic objects to, on one line, without the values (they may be secrets)."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return f"{error}; annotate the parameter"
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
        for item in error.errors(include_input=False)
    )
