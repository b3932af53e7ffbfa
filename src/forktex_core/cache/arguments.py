# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From a call to the text that identifies it.

Arguments are bound to the function's parameters first, so that positional, keyword and defaulted
calls are one call. Each value then becomes a text that no other value has: strings stand for
themselves (escaped), everything else begins with `=` and a letter for its type, so `1`, `"1"`,
`True` and `1.0` are four different keys. Containers are written recursively; sets and mappings in
the order of their texts.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import pathlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from .errors import CacheKeyError
from .namespace import escape, shorten

_LEAVES: dict[type, Callable[[Any], str]] = {
    str: escape,
    bool: lambda value: "=t" if value else "=f",
    int: lambda value: f"=i{int(value)}",
    float: lambda value: f"=r{escape(repr(float(value)))}",
    bytes: lambda value: f"=b{escape(value)}",
    uuid.UUID: lambda value: f"=u{value.hex}",
    decimal.Decimal: lambda value: f"=n{escape(str(value))}",
    dt.datetime: lambda value: f"=d{escape(value.isoformat())}",
    dt.date: lambda value: f"=y{value.isoformat()}",
    dt.time: lambda value: f"=h{escape(value.isoformat())}",
    dt.timedelta: lambda value: f"=e{value // dt.timedelta(microseconds=1)}",
    pathlib.PurePath: lambda value: f"=p{escape(str(value))}",
    type(None): lambda _: "=z",
}
_LETTERS: dict[type, str] = {list: "l", tuple: "q", set: "s", frozenset: "s"}


def stable_text(value: object) -> str:
    """The one text of a value.

    Strings, numbers, bytes, dates, UUIDs, paths, enum members, classes, the built-in containers,
    dataclasses, pydantic models, and objects with a ``__cache_key__`` method (which returns one of
    these) have one.

    Raises:
        CacheKeyError: the value is of another type, or contains itself.
    """
    leaf = _LEAVES.get(type(value))
    if leaf is not None:
        return leaf(value)
    try:
        return _composite(value)
    except RecursionError:
        raise CacheKeyError(f"a {type(value).__name__} that contains itself has no key") from None


def _composite(value: object) -> str:
    kind = type(value)
    if isinstance(value, enum.Enum):
        return f"=m{_qualified(kind)}.{escape(value.name)}"
    if isinstance(value, type):
        return f"=c{_qualified(value)}"
    fields = _fields(value)
    if fields is not None:
        pairs = (f"{escape(name)}!{stable_text(field)}" for name, field in fields)
        return f"=o{_qualified(kind)}({','.join(pairs)})"
    if isinstance(value, dict):
        return f"=g({','.join(sorted(_pairs(value)))})"
    for container, letter in _LETTERS.items():
        if isinstance(value, container):
            texts = [stable_text(item) for item in cast("Iterable[object]", value)]
            return f"={letter}({','.join(sorted(texts) if letter == 's' else texts)})"
    for base, leaf in _LEAVES.items():
        if isinstance(value, base):
            return leaf(value)
    raise CacheKeyError(f"{kind.__module__}.{kind.__qualname__} has no stable key")


def _pairs(value: Mapping[object, object]) -> Iterable[str]:
    return (f"{stable_text(name)}!{stable_text(item)}" for name, item in value.items())


def _fields(value: object) -> Iterable[tuple[str, object]] | None:
    kind = type(value)
    own = getattr(kind, "__cache_key__", None)
    if own is not None:
        return [("", own(value))]
    if hasattr(kind, "__pydantic_fields__"):
        names = [*kind.__pydantic_fields__, *(getattr(value, "__pydantic_extra__", None) or ())]
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
    else:
        return None
    return [(name, getattr(value, name)) for name in names]


def _qualified(kind: type) -> str:
    return escape(f"{kind.__module__}.{kind.__qualname__}")


def never_stable(annotation: object) -> bool:
    """Whether values of an annotated class certainly have no stable text.

    Only a concrete class can be judged; what else stands in an annotation is left to the call.
    """
    if not isinstance(annotation, type) or annotation in (object, Any):
        return False
    if inspect.isabstract(annotation) or getattr(annotation, "_is_protocol", False):
        return False
    stable = (*_LEAVES, *_LETTERS, dict, enum.Enum, type)
    marked = ("__cache_key__", "__pydantic_fields__", "__dataclass_fields__")
    # A builtin or an ABC that a stable type implements says nothing about its values.
    implemented = any(issubclass(base, annotation) for base in stable)
    return not (
        implemented
        or issubclass(annotation, stable)
        or any(hasattr(annotation, name) for name in marked)
    )


class Arguments:
    """How a function's calls become key texts.

    Args:
        function: the function whose signature counts.
        exclude: parameters that don't count.

    Raises:
        CacheKeyError: `exclude` names a parameter that the function hasn't.
    """

    def __init__(self, function: Callable[..., object], exclude: Iterable[str] = ()) -> None:
        self.signature = inspect.signature(function)
        self._owner = function.__qualname__
        parameters = self.signature.parameters
        self._skip = frozenset(exclude)
        if unknown := self._skip - set(parameters):
            raise CacheKeyError(
                f"{self._owner} has no parameter {', '.join(sorted(unknown))} to exclude; "
                f"it has {', '.join(parameters) or 'none'}"
            )
        self._names = tuple(parameters)
        self._plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        """The value of every parameter, defaults included, in the order of the signature.

        Raises:
            TypeError: the function can't be called so.
        """
        if self._plain and not kwargs and len(args) == len(self._names):
            return dict(zip(self._names, args, strict=True))
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def texts(self, bound: Mapping[str, Any]) -> list[str]:
        """One text per parameter that counts; long ones are digests.

        Raises:
            CacheKeyError: an argument has no stable text.
        """
        texts = []
        for name, value in bound.items():
            if name not in self._skip:
                try:
                    texts.append(shorten(stable_text(value)))
                except CacheKeyError as problem:
                    raise self._unstable(name, problem) from None
        return texts

    def _unstable(self, name: str, problem: CacheKeyError) -> CacheKeyError:
        return CacheKeyError(
            f"{self._owner}: argument {name!r}: {problem}; leave it out with exclude=({name!r},), "
            "build the key yourself with key=, or give its class a __cache_key__ method"
        )

    def refuse_unstable(self, hints: Mapping[str, object]) -> None:
        """Refuse a signature whose annotations show that no call of it can have a key.

        Raises:
            CacheKeyError: a parameter that counts is annotated with a class without stable texts.
        """
        for name in self._names:
            hint = hints.get(name)
            if name not in self._skip and never_stable(hint):
                kind = cast("type", hint)
                problem = f"{kind.__module__}.{kind.__qualname__} has no stable key"
                raise self._unstable(name, CacheKeyError(problem))
