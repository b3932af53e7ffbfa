# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which key and which tags a call of a cached function has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .arguments import Arguments, stable_text
from .errors import CacheConfigurationError
from .namespace import Namespace, escape, part_text, plain_text, shorten
from .template import Template

type Call = tuple[tuple[Any, ...], dict[str, Any]]
type TagSource = Sequence[str] | Callable[..., Iterable[str]]

_NO_ARGUMENTS = "="


class Keying:
    """The keys of one function: ``namespace:function::{arguments}``.

    The braces keep an entry and its lease in one cluster slot; in a namespace with a hash tag all
    keys share one already.

    Args:
        function: the function.
        namespace: where its keys are.
        key: a template or a function of the arguments instead of all arguments.
        exclude: parameters that don't count.
        tags: templates, or a function of the arguments.

    Raises:
        CacheKeyError: an unknown parameter is named.
        CacheConfigurationError: `tags` is a single string.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        namespace: Namespace,
        key: str | Callable[..., Any] | None,
        exclude: Iterable[str],
        tags: TagSource,
    ) -> None:
        self.name = function.__qualname__.rpartition("<locals>.")[2]
        self.path = namespace.child(self.name).path
        self._opening, self._closing = ("::", "") if namespace.hash_tag else ("::{", "}")
        self._arguments = Arguments(function, exclude)
        self._by_arguments = key is None
        self._text = self._text_of(key)
        self.tags = self._tags_of(tags)

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The key of a call.

        Raises:
            CacheKeyError: an argument has no stable text.
            TypeError: the function can't be called so.
        """
        return f"{self.path}{self._opening}{self._text(args, kwargs)}{self._closing}"

    def refuse_unstable(self, hints: Mapping[str, object]) -> None:
        """Refuse annotations that no key can be made of, when keys are made of all arguments."""
        if self._by_arguments:
            self._arguments.refuse_unstable(hints)

    def _template(self, text: str) -> Template:
        return Template(text, self.name, self._arguments.signature.parameters)

    def _text_of(
        self, key: str | Callable[..., Any] | None
    ) -> Callable[[tuple[Any, ...], dict[str, Any]], str]:
        arguments = self._arguments
        if key is None:

            def joined(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
                texts = arguments.texts(arguments.bind(args, kwargs))
                return ":".join(texts) or _NO_ARGUMENTS

            return joined
        if isinstance(key, str):
            template = self._template(key)

            def rendered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
                bound = arguments.bind(args, kwargs)
                return template.render(bound, _argument_text, _literal_text) or _NO_ARGUMENTS

            return rendered
        return lambda args, kwargs: _made_text(key(*args, **kwargs))

    def _tags_of(
        self, tags: TagSource
    ) -> Callable[[tuple[Any, ...], dict[str, Any]], list[str]] | None:
        if isinstance(tags, str):
            raise CacheConfigurationError(f"{self.name}: tags=({tags!r},) is a tuple with a comma")
        if callable(tags):
            return lambda args, kwargs: sorted(set(tags(*args, **kwargs)))
        if not tags:
            return None
        templates = [self._template(tag) for tag in tags]

        def rendered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
            bound = self._arguments.bind(args, kwargs)
            return sorted({template.render(bound, _tag_text) for template in templates})

        return rendered


def _argument_text(value: object) -> str:
    return shorten(stable_text(value))


def _literal_text(text: str) -> str:
    return ":".join(map(escape, text.split(":")))


def _tag_text(value: object) -> str:
    text = plain_text(value)
    return text if isinstance(text, str) else escape(text)


def _made_text(made: Any) -> str:
    parts = made if isinstance(made, tuple) else (made,)
    return ":".join(map(part_text, parts)) or _NO_ARGUMENTS
