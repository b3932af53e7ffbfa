# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Templates of keys and tags: ``"user:{user_id}"``, ``"{order.customer.id}:{day}"``."""

from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any

from .errors import CacheKeyError

_FORMATTER = Formatter()


class Template:
    """A text with a function's parameters in braces; attributes and items may follow a name.

    Args:
        text: the template.
        owner: the function's name, for messages.
        parameters: the names that it may use.

    Raises:
        CacheKeyError: the template is malformed or names something that isn't a parameter.
    """

    def __init__(self, text: str, owner: str, parameters: Iterable[str]) -> None:
        self._text = text
        self._owner = owner
        try:
            self._pieces = [piece[:4] for piece in _FORMATTER.parse(text)]
        except ValueError as exc:
            raise CacheKeyError(f"{owner}: template {text!r}: {exc}") from None
        known = set(parameters)
        for _, field, spec, conversion in self._pieces:
            if spec or conversion:
                raise CacheKeyError(f"{owner}: template {text!r}: formats don't belong in a key")
            if field is not None and field.replace("[", ".").split(".")[0] not in known:
                raise CacheKeyError(
                    f"{owner}: template {text!r} names {field or 'nothing'!r}; "
                    f"the parameters are {', '.join(known) or 'none'}"
                )

    def render(
        self,
        bound: Mapping[str, Any],
        value: Callable[[Any], str],
        literal: Callable[[str], str] = str,
    ) -> str:
        """The text for a call.

        Args:
            bound: the call's arguments by parameter.
            value: the text of an argument.
            literal: the text of what stands between arguments.

        Raises:
            CacheKeyError: an argument has no such attribute or no text.
        """
        parts = []
        for text, field, _, _ in self._pieces:
            parts.append(literal(text))
            if field is not None:
                parts.append(value(self._argument(field, bound)))
        return "".join(parts)

    def _argument(self, field: str, bound: Mapping[str, Any]) -> Any:
        try:
            return _FORMATTER.get_field(field, (), bound)[0]
        except (AttributeError, LookupError, TypeError) as exc:
            raise CacheKeyError(f"{self._owner}: template {self._text!r}: {exc}") from None
