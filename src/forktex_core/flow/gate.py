# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The gate that every public call passes when a Flow has extensions that restrict somebody.

Protocol. The way to the database (``Client._open``) is shut: on the Flow itself, because nobody
said who asks, and on what ``as_()`` returns, until a call has passed the gate. The gate is the
decorator ``guarded``. It looks the run up as the principal sees it, asks the extensions, and calls
the method on a copy of the object whose way is open, for this call alone. So a method without the
decorator can't reach the database at all, and one that calls another passes the other's gate too.

What a principal may not see is not found: the same error, by the same statements, as what is not
there. A run that it may read but not act upon is an AccessDeniedError.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from forktex_core.flow.errors import AccessDeniedError, RunNotFoundError
from forktex_core.flow.extension import Action, RunView
from forktex_core.flow.identity import as_run_id

if TYPE_CHECKING:
    from uuid import UUID

    from forktex_core.flow.client import Client


class Guarded(Protocol):
    """An object whose methods pass the gate: a Flow, or a part of one such as its definitions."""

    @property
    def _client(self) -> "Client": ...

    def _on(self, client: "Client") -> Any: ...


def guarded[F: Callable[..., Any]](action: Action) -> Callable[[F], F]:
    """Let a method be called only by who may do ``action``: upon the run ``run_id``, if the method
    takes one. ``start`` is asked about where the draft of the run is made.
    """

    def decorate(fn: F) -> F:
        code = fn.__code__
        of_run = "run_id" in code.co_varnames[: code.co_argcount]
        if inspect.isasyncgenfunction(fn):
            gate = _stream_gate(fn, action, of_run=of_run)
        else:
            gate = inspect.markcoroutinefunction(_call_gate(fn, action, of_run=of_run))
        gate = functools.wraps(fn)(gate)
        gate.action = action  # type: ignore[attr-defined]
        return cast("F", gate)

    return decorate


def _call_gate(fn: Any, action: Action, *, of_run: bool) -> Callable[..., Any]:
    def gate(self: Guarded, *args: Any, **kwargs: Any) -> Any:
        if not self._client._extensions.guards:  # noqa: SLF001 - the gate is a part of it
            return fn(self, *args, **kwargs)
        return call(self, args, kwargs)

    async def call(owner: Guarded, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await fn(await _pass(action, owner, args, kwargs, of_run=of_run), *args, **kwargs)

    return gate


def _stream_gate(fn: Any, action: Action, *, of_run: bool) -> Callable[..., Any]:
    async def gate(self: Guarded, *args: Any, **kwargs: Any) -> Any:
        owner = self
        if self._client._extensions.guards:  # noqa: SLF001 - the gate is a part of it
            owner = await _pass(action, self, args, kwargs, of_run=of_run)
        async with contextlib.aclosing(fn(owner, *args, **kwargs)) as found:
            async for item in found:
                yield item

    return gate


def of_process[F: Callable[..., Any]](fn: F) -> F:
    """Keep a method that sets a process up from who acts for a principal."""

    @functools.wraps(fn)
    def gate(self: Guarded, *args: Any, **kwargs: Any) -> Any:
        if self._client._acts:  # noqa: SLF001 - the gate is a part of it
            raise AccessDeniedError(
                fn.__name__, f"{fn.__name__}() sets the process up: call it on the Flow itself"
            )
        return fn(self, *args, **kwargs)

    gate.action = None  # type: ignore[attr-defined]
    return cast("F", gate)


async def _pass(
    action: Action, owner: Guarded, args: tuple[Any, ...], kwargs: dict[str, Any], *, of_run: bool
) -> Any:
    """Return the object on which the call may go on."""
    passed = owner._client._passed(action)  # noqa: SLF001 - the gate is a part of it
    if of_run and (args or "run_id" in kwargs):
        run_id = as_run_id(args[0] if args else kwargs["run_id"])
        await check_run(passed, action, run_id, kwargs.get("session"))
    elif action != "start":
        await check(passed, action)
    return owner._on(passed)  # noqa: SLF001 - the gate is a part of it


async def check(passed: "Client", action: Action, run: RunView | None = None) -> None:
    """Raise AccessDeniedError unless the principal may do ``action``."""
    if not await passed._extensions.authorized(action, passed._principal, run):  # noqa: SLF001
        raise AccessDeniedError(action)


async def check_run(passed: "Client", action: Action, run_id: "UUID", session: Any) -> None:
    """Raise unless the run is there for the principal, and it may do ``action`` upon it.

    Raises:
        RunNotFoundError: there is no such run, or none that it may read.
        AccessDeniedError: it may read the run, but not do this.
    """
    if (action, run_id) in passed._passes:  # noqa: SLF001 - the gate is a part of it
        return
    run = await passed._view_of(run_id, session)  # noqa: SLF001 - the gate is a part of it
    authorized, principal = passed._extensions.authorized, passed._principal  # noqa: SLF001
    if run is None:
        raise RunNotFoundError(run_id)
    if not await authorized(action, principal, run):
        if action != "read" and await authorized("read", principal, run):
            raise AccessDeniedError(action)
        raise RunNotFoundError(run_id)
    passed._passes.add((action, run_id))  # noqa: SLF001 - the gate is a part of it
