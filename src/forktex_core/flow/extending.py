# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The extensions of a Flow, asked as one, in their order."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from forktex_core.flow.errors import AccessDeniedError, DefinitionError
from forktex_core.flow.extension import (
    HOOKS,
    Action,
    Column,
    Condition,
    FlowExtension,
    RunDraft,
    RunView,
)

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")


_SETTING = re.compile(r"[a-z_][a-z0-9_]{0,40}\.[a-z_][a-z0-9_]{0,40}")


class _System:
    """The service itself: see SYSTEM."""

    def __repr__(self) -> str:
        return "SYSTEM"


SYSTEM: Final = _System()
"""The principal that stands for the service itself: no extension restricts it."""


class Extensions:
    """See the top of the file. ``guards``: whether every call has to say who asks.

    Raises:
        DefinitionError: an object has none of the hooks, or two extensions have a column of the
            same name.
    """

    def __init__(self, extensions: Sequence[Any] = ()) -> None:
        for extension in extensions:
            _check(extension)
        self._any = bool(extensions)
        self._starters = _hooks(extensions, "on_start")
        self._authorizers = _hooks(extensions, "authorize")
        self._visible = _hooks(extensions, "visible")
        self._namespaces = _hooks(extensions, "namespace")
        self._settings = _hooks(extensions, "settings")
        self.on_transition = _hooks(extensions, "on_transition")
        self.after_commit = _hooks(extensions, "after_commit")
        self.guards = bool(self._authorizers or self._visible or self._namespaces or self._settings)
        self.columns: tuple[Column, ...] = tuple(
            column for hook in _hooks(extensions, "columns") for column in hook()
        )
        names = [column.name for column in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DefinitionError(f"two extensions have a column {twice[0]!r}: rename one")

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self._any

    @property
    def watches(self) -> bool:
        """Whether somebody takes part in changes of status."""
        return bool(self.on_transition or self.after_commit)

    async def authorized(self, action: Action, principal: Any, run: RunView | None) -> bool:
        """Say whether every extension lets a principal do something."""
        if principal is SYSTEM:
            return True
        for hook in self._authorizers:
            try:
                if await settled(hook(action, principal, run)) is not True:
                    return False
            except AccessDeniedError:
                return False
        return True

    def condition(self, principal: Any) -> Condition | None:
        """Return what a principal may see, by all extensions; None: everything."""
        if principal is SYSTEM:
            return None
        texts: list[str] = []
        parameters: list[Any] = []
        indexed = False
        for hook in self._visible:
            found = hook(principal)
            if found is not None:
                texts.append(f"({found.at('{row}', len(parameters) + 1)})")
                parameters.extend(found.parameters)
                indexed = indexed or found.indexed
        return Condition(" AND ".join(texts), tuple(parameters), indexed) if texts else None

    def namespace(self, principal: Any) -> str | None:
        """Return the space of a principal's names, by the first extension that has one."""
        if principal is SYSTEM:
            return None
        for hook in self._namespaces:
            found = hook(principal)
            if found is not None:
                if not isinstance(found, str) or not _NAMESPACE.fullmatch(found):
                    raise AccessDeniedError("namespace", f"{found!r:.120} can't be a namespace")
                return found
        return None

    def settings(self, principal: Any) -> tuple[tuple[str, str], ...]:
        """Return the settings of Postgres for a principal's transactions."""
        if principal is SYSTEM:
            return ()
        made = tuple(item for hook in self._settings for item in hook(principal).items())
        for name, value in made:
            if not _SETTING.fullmatch(name) or not isinstance(value, str):
                raise DefinitionError(f"setting {name!r:.80} = {value!r:.80}: 'prefix.name', a str")
        return made

    async def fill(self, draft: RunDraft) -> None:
        """Let the extensions fill a draft; check what they put into it.

        Raises DefinitionError for a column that no extension has, or a value of another type.
        """
        for hook in self._starters:
            await settled(hook(draft))
        known = {column.name: column for column in self.columns}
        for name, value in draft.columns.items():
            if name not in known:
                raise DefinitionError(f"on_start filled column {name!r}, which no columns() has")
            draft.columns[name] = known[name].check(value)


async def settled(answer: Any) -> Any:
    """Return what a hook returned, awaited if need be."""
    return await answer if inspect.isawaitable(answer) else answer


def _check(extension: Any) -> None:
    found = [name for name in HOOKS if _hook(extension, name) is not None]
    if not found:
        raise DefinitionError(
            f"{type(extension).__name__} is no extension: it has none of {', '.join(HOOKS)}"
        )


def _hooks(extensions: Sequence[Any], name: str) -> list[Callable[..., Any]]:
    return [hook for e in extensions if (hook := _hook(e, name)) is not None]


def _hook(extension: Any, name: str) -> Callable[..., Any] | None:
    """Return an extension's hook, None for one that it only inherits from FlowExtension."""
    hook = getattr(extension, name, None)
    if hook is None or getattr(type(extension), name, None) is getattr(FlowExtension, name):
        return None
    if not callable(hook):
        raise DefinitionError(f"{type(extension).__name__}.{name} is not callable")
    return hook  # type: ignore[no-any-return]
