# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What graphs that are data may name: functions and models that the service offers to authors.
Nothing else can be reached from a document.
"""

from collections.abc import Callable, Mapping
from typing import Any

from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.graph.definition import Guard, Merge, StateFunction
from forktex_core.flow.workflow import check_name, function_name


class Library:
    """The names that a graph's document may use.

    Args:
        actions: workflow code ``(ctx, payload)`` by name, for states, entry, exit and transitions.
        guards: pure predicates over the payload by name.
        merges: ``(payload, sent) -> payload`` by name.
        payloads: pydantic models by name.
    """

    def __init__(
        self,
        *,
        actions: Mapping[str, StateFunction] | None = None,
        guards: Mapping[str, Guard] | None = None,
        merges: Mapping[str, Merge] | None = None,
        payloads: Mapping[str, Any] | None = None,
    ) -> None:
        self._known: dict[str, dict[str, Any]] = {
            "action": dict(actions or {}),
            "guard": dict(guards or {}),
            "merge": dict(merges or {}),
            "payload": dict(payloads or {}),
        }

    def action[F: Callable[..., Any]](self, fn: F) -> F:
        """Offer workflow code under its function's name: ``@library.action``."""
        return self._add("action", fn)

    def guard[F: Callable[..., Any]](self, fn: F) -> F:
        """Offer a predicate under its function's name: ``@library.guard``."""
        return self._add("guard", fn)

    def merge[F: Callable[..., Any]](self, fn: F) -> F:
        """Offer a merge under its function's name: ``@library.merge``."""
        return self._add("merge", fn)

    def payload[T](self, model: type[T]) -> type[T]:
        """Offer a payload model under its class's name: ``@library.payload``."""
        return self._add("payload", model)

    def _add[T](self, kind: str, thing: T) -> T:
        name = check_name(getattr(thing, "__name__", None), kind)
        if self._known[kind].setdefault(name, thing) is not thing:
            raise DefinitionError(f"the library has another {kind} {name!r} already")
        return thing

    def names(self, kind: str) -> list[str]:
        """Return the known names of a kind (action, guard, merge, payload), sorted."""
        return sorted(self._known[kind])

    def get(self, kind: str, name: str) -> Any:
        """Return what a name of a kind stands for, None when it stands for nothing."""
        return self._known[kind].get(name)

    def name_of(self, kind: str, thing: Any) -> str:
        """Return the name that something is known by; raise DefinitionError when there is none."""
        for name, known in self._known[kind].items():
            if known is thing:
                return name
        raise DefinitionError(
            f"{function_name(thing)!r} has no name as a graph's {kind}: offer it in the Library"
        )
