# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a Flow knows by name: workflows and the steps that they call, and the options that steps
take.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Literal

from forktex_core.flow.codec import Shape, parameter_shape, return_shape
from forktex_core.flow.errors import DefinitionError, UnknownWorkflowError
from forktex_core.flow.retry import NO_RETRY, Retry, positive, span

if TYPE_CHECKING:
    from forktex_core.flow.context import FlowContext
    from forktex_core.flow.fingerprint import Fingerprint

_MAX_NAME = 200
_MAX_PRIORITY = 32767
CANCEL_GRACE = 600.0

type Durability = Literal["commit", "pipelined"]


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is executed.

    Args:
        name: what the journal calls it; the function's qualified name by default.
        retries: the policy after a failure; none by default.
        timeout: seconds (or a timedelta) for each attempt.
        deadline: seconds (or a timedelta) over all attempts and the waits between them.
        transactional: what it does with ``ctx.session`` is committed together with its result.
    """

    name: str | None = None
    retries: Retry = NO_RETRY
    timeout: float | timedelta | None = None
    deadline: float | timedelta | None = None
    transactional: bool = False


class Step[**P, R]:
    """A function whose result is recorded: called with a workflow's context, it runs at most until
    it succeeded once.
    """

    takes_context = True

    def __init__(
        self, fn: Callable[Concatenate[Any, P], Awaitable[R] | R], options: StepOptions
    ) -> None:
        if not callable(fn):
            raise DefinitionError(f"a step must be a function, not {fn!r}")
        self.fn = fn
        self.settings = options
        self.is_async = is_async(fn)
        if options.transactional and not self.is_async:
            raise DefinitionError(
                f"step {function_name(fn)!r} is transactional: it must be an 'async def' function"
            )
        self.name = check_name(options.name or function_name(fn), "step")
        for limit in ("timeout", "deadline"):
            if (given := getattr(options, limit)) is not None:
                positive(given, f"{limit} of step {self.name!r}")
        update_wrapper(self, fn)

    @cached_property
    def shape(self) -> Shape:
        """How the result travels."""
        return return_shape(self.fn)

    def options(self, **changes: Any) -> "Step[P, R]":
        """Return the same step with other StepOptions, for one call or many."""
        return Step(self.fn, replace(self.settings, **changes))

    def __call__(
        self, ctx: "FlowContext", *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Run the step durably within the workflow that ``ctx`` belongs to."""
        call = getattr(ctx, "_call_step", None)
        if call is None:
            raise DefinitionError(
                f"step {self.name!r} takes the context of the workflow as its first argument, not "
                f"{type(ctx).__name__!r}; to run the bare function, call .fn"
            )
        return call(self, args, kwargs)  # type: ignore[no-any-return]


class Workflow[I, O]:
    """A registered body with its name and version."""

    kind = "code"

    def __init__(
        self,
        fn: Callable[..., Coroutine[Any, Any, O]],
        name: str,
        version: int,
        *,
        durability: Durability = "commit",
        cancel_grace: float | timedelta = CANCEL_GRACE,
    ) -> None:
        if not inspect.iscoroutinefunction(fn):
            raise DefinitionError(f"workflow {name!r} must be an 'async def' function, not {fn!r}")
        if type(version) is not int or not 1 <= version < 2**31:
            raise DefinitionError(
                f"workflow {name!r}: version must be a positive integer, not {version!r}"
            )
        self.fn = fn
        self.name = check_name(name, "workflow")
        self.version = version
        if durability not in ("commit", "pipelined"):
            raise DefinitionError(
                f"workflow {name!r}: durability must be 'commit' or 'pipelined', not {durability!r}"
            )
        self.durability = durability
        self.cancel_grace = span(cancel_grace, f"workflow {name!r}: cancel_grace")
        self.input_shape = _input_shape(fn, name)
        self.output_shape = return_shape(fn)
        update_wrapper(self, fn)

    @property
    def lane(self) -> str:
        """What a worker must serve to run it."""
        return f"{self.name}@{self.version}"

    @cached_property
    def fingerprint(self) -> "Fingerprint":
        """What the body does as far as replay is concerned, as a hash of its source.

        Raises:
            SourceNotFoundError: the source is not to be had.
        """
        from forktex_core.flow.body import fingerprint_of

        return fingerprint_of(self)

    def begin(self, ctx: "FlowContext", value: I) -> Coroutine[Any, Any, O]:
        """Return the body, ready to run."""
        return self.fn(ctx) if self.input_shape is None else self.fn(ctx, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, O]:
        """Run the body inline, as part of the workflow that calls it."""
        return self.fn(*args, **kwargs)


def _input_shape(fn: Callable[..., Any], name: str) -> Shape | None:
    parameters = list(inspect.signature(fn).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [
        p
        for p in parameters[2:]
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if (
        not positional
        or required
        or any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    ):
        raise DefinitionError(
            f"workflow {name!r} must take (ctx) or (ctx, input), not {inspect.signature(fn)}"
        )
    return parameter_shape(fn, positional[1]) if len(positional) > 1 else None


def function_name(fn: Callable[..., Any]) -> str:
    """Return what a function is called in the journal."""
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


def is_async(fn: Callable[..., Any]) -> bool:
    """Say whether calling a function makes a coroutine."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(type(fn), "__call__", None)  # noqa: B004 - an object that is called
    )


def check_priority(priority: int) -> int:
    """Return a priority; raise ValueError when it is out of its range."""
    if not -_MAX_PRIORITY <= priority <= _MAX_PRIORITY:
        raise ValueError(
            f"priority must lie between -{_MAX_PRIORITY} and {_MAX_PRIORITY}, not {priority}"
        )
    return priority


def check_name(name: Any, what: str) -> str:
    """Return a name fit for the journal; raise DefinitionError when it isn't."""
    if (
        not isinstance(name, str)
        or not name.strip()
        or len(name) > _MAX_NAME
        or not name.isprintable()
    ):
        raise DefinitionError(
            f"{what} name {name!r:.120}: it must be 1 to {_MAX_NAME} printable characters"
        )
    return name


class Registry:
    """The definitions of one Flow, by name and version."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[int, Workflow[Any, Any]]] = {}
        self.stored: Any = None  # graph/stored.py: the graphs that are data, named '@…'

    def add(self, workflow: Workflow[Any, Any]) -> None:
        """Register a definition; raise DefinitionError when its name and version are taken."""
        if workflow.name.startswith("@"):
            raise DefinitionError(
                f"workflow name {workflow.name!r}: names that begin with '@' are stored graphs'"
            )
        versions = self._by_name.setdefault(workflow.name, {})
        if workflow.version in versions:
            raise DefinitionError(
                f"workflow {workflow.name!r} version {workflow.version} is registered "
                "already: give the new body "
                f"version={max(versions) + 1}"
            )
        versions[workflow.version] = workflow

    def find(self, name: str, version: int | None = None) -> Workflow[Any, Any] | None:
        """Return a version of a workflow, the newest by default; None when there is none."""
        versions = self._by_name.get(name)
        if not versions:
            return None if self.stored is None else self.stored.find(name, version)
        return versions.get(max(versions) if version is None else version)

    @property
    def lanes(self) -> list[str]:
        """What a worker of these definitions serves, sorted."""
        stored = set() if self.stored is None else {"@graphs"}
        return sorted({workflow.lane for workflow in self} | stored)

    def unknown(self, name: str, version: int | None) -> UnknownWorkflowError:
        """Return the error for a workflow that isn't there."""
        return UnknownWorkflowError(name, version, sorted(w.lane for w in self))

    def __iter__(self) -> Any:
        return (w for versions in self._by_name.values() for w in versions.values())
