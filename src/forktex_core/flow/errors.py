# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can go wrong in flow.

::

    FlowError
    ├── DefinitionError            a workflow, step or graph is not fit to be registered
    ├── UnknownWorkflowError       no such workflow, or no such version of it
    ├── RunNotFoundError           no run has this id
    ├── RunFinishedError           the run has ended and takes no signal any more
    ├── RunConflictError           what is asked of a run collides with another one
    ├── StepNotFoundError          the run recorded no such step, or several
    ├── UnknownScheduleError       no schedule has this name
    ├── PayloadError               a value that JSON can't carry, or not of the annotated type
    │   └── PayloadTooLargeError   a value larger than the limit
    ├── AccessDeniedError          the principal may not do it, or there is none
    ├── ChangeRefusedError         an extension refused a change of status
    ├── ContextMisuseError         a durable call made where it can't be
    ├── NonDeterminismError        the code asks for something else than the journal holds
    ├── FlowNotOpenError           the flow was not opened, or is closed
    ├── DatabaseUnavailableError   Postgres can't be reached, or refused the connection
    ├── SchemaTooNewError          a newer release has migrated the database
    ├── SchemaTooOldError          the database lacks migrations of this release
    ├── NoSchemaError              the database has no tables of this Flow
    ├── SourceNotFoundError        a body's source is not to be had
    ├── QueryError                 a filter, an order or a cursor of flow.runs is malformed
    ├── ManifestError              a manifest of bodies, or a stored journal, can't be read
    ├── StepFailed                 a step failed for good; also of the original type where it can be
    │   └── StepTimeout            its time ran out
    └── RunFailed                  raised by result(); also of the original type where it can be
        ├── RunCancelled           the run was cancelled
        ├── RunTimeout             the run did not end within its timeout
        └── RunHalted              the run stands still until an operator acts
"""

import builtins
import contextlib
import sys
import traceback
from typing import Any, Self, cast
from uuid import UUID


class FlowError(Exception):
    """Root of everything that flow raises."""


class DefinitionError(FlowError):
    """A workflow, step or graph can't be registered as it is."""


class UnknownWorkflowError(FlowError):
    """No workflow has this name (and version)."""

    def __init__(self, workflow: str, version: int | None, known: list[str]) -> None:
        self.workflow, self.version, self.known = workflow, version, known
        what = (
            f"workflow {workflow!r}"
            if version is None
            else f"version {version} of workflow {workflow!r}"
        )
        there = ", ".join(known) if known else "none"
        super().__init__(
            f"there is no {what}: registered here: {there}; register it on this Flow, "
            "or start a worker that serves it"
        )


class RunNotFoundError(FlowError):
    """No run has this id."""

    def __init__(self, run_id: UUID) -> None:
        self.run_id = run_id
        super().__init__(f"there is no run {run_id}: it never existed here, or was pruned")


class RunFinishedError(FlowError):
    """The run has ended."""

    def __init__(self, run_id: UUID, status: str, what: str) -> None:
        self.run_id, self.status = run_id, status
        super().__init__(f"run {run_id} has {status}: {what}; start a new run instead")


class RunConflictError(FlowError):
    """What is asked of a run collides with another run."""

    def __init__(self, run_id: UUID, what: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id}: {what}")


class StepNotFoundError(FlowError):
    """The run recorded no such step, or several of them."""

    def __init__(self, run_id: UUID, step: str, there: list[str], *, several: bool) -> None:
        self.run_id, self.step = run_id, step
        named = ", ".join(there[:20]) or "nothing"
        what = (
            f"several steps {step!r}: give the key of one of {named}"
            if several
            else f"no step {step!r}; recorded are {named}"
        )
        super().__init__(f"run {run_id} has {what}")


class UnknownScheduleError(FlowError):
    """No schedule has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no schedule {name!r}: make it with schedule()")


class PayloadError(FlowError):
    """A value can't be carried as JSON, or doesn't fit its annotation."""


class PayloadTooLargeError(PayloadError):
    """A value is larger than the limit."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            f"{what} is {size:,} bytes of JSON, the limit is {limit:,}: store it elsewhere "
            "and pass a "
            "reference, or raise Flow(max_payload_bytes=...)"
        )


class ContextMisuseError(FlowError):
    """A durable call was made where it can't be."""


class NonDeterminismError(FlowError):
    """The code asks for something else than the journal holds."""

    def __init__(self, key: str, recorded: str | None, requested: str | None) -> None:
        self.key, self.recorded, self.requested = key, recorded, requested
        if requested is None:
            what = f"the journal holds {recorded} at {key}, which the code no longer asks for"
        else:
            what = f"the journal holds {recorded} at {key}, the code asks for {requested}"
        super().__init__(
            f"{what}: run the code version that began this run, or register the changed body "
            "under a new version"
        )


class FlowNotOpenError(FlowError):
    """The flow is not open."""

    def __init__(self) -> None:
        super().__init__(
            "this Flow is not open: use 'async with flow:' or 'await flow.open()' first"
        )


class DatabaseUnavailableError(FlowError):
    """Postgres can't be reached."""

    def __init__(self, address: str, reason: BaseException) -> None:
        self.address = address
        super().__init__(
            f"no connection to Postgres at {address}: {type(reason).__name__}: {reason}; "
            "check that the server runs and that the URL given to Flow(...) is right"
        )


class SchemaTooNewError(FlowError):
    """The schema was migrated by a newer release."""

    def __init__(self, schema: str, found: int, known: int) -> None:
        self.schema, self.found, self.known = schema, found, known
        super().__init__(
            f"schema {schema!r} is at migration {found}, this release knows {known}: upgrade "
            "forktex-core here"
        )


class RecordedError(FlowError):
    """An error that was recorded in the database and restored from it.

    Attributes: ``type_name`` (qualified name of the original type), ``message``,
        ``traceback_text``, and ``rollback``: what is known of each compensation that failed
        (``step``, ``type``, ``message``, ``traceback``).
    """

    type_name: str = ""
    message: str = ""
    traceback_text: str = ""
    rollback: tuple[dict[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        recorded = {"type": self.type_name, "message": self.message, "args": list(self.args)}
        return (_again, (next(c for c in type(self).__mro__ if c in _TREE), recorded))

    @classmethod
    def restored(cls, record: dict[str, Any]) -> Self:
        """Make the error again from what was recorded.

        The result is an instance of ``cls`` and, where the original type is loaded in this process,
        of that as well, so both ``except StepFailed`` and ``except PaymentDeclined`` catch it.
        """
        error: Any = _instance(cls, _find_type(record.get("type", "")), record.get("args"))
        error.type_name = record.get("type", "")
        error.message = record.get("message", "")
        error.traceback_text = record.get("traceback", "")
        error.rollback = tuple(record.get("rollback", ()))
        for failed in error.rollback:
            error.add_note(f"compensation {failed['step']!r} failed: {failed['message']}")
        return cast("Self", error)


class StepFailed(RecordedError):  # noqa: N818 - the name that the field uses
    """A step failed for good."""


class StepTimeout(StepFailed, TimeoutError):  # noqa: N818 - as TimeoutError itself
    """A step did not finish within its timeout or deadline."""


class RunFailed(RecordedError):  # noqa: N818 - the name that the field uses
    """A run failed."""


class RunCancelled(RunFailed):
    """A run was cancelled."""


class RunTimeout(RunFailed, TimeoutError):  # noqa: N818 - as TimeoutError itself
    """A run did not end within the timeout that it was started with."""


class RunHalted(RunFailed):
    """A run stands still: its error says what an operator must mend before it is resumed."""


def type_name(kind: type[BaseException]) -> str:
    """Return the qualified name by which an exception's type is recorded."""
    return f"{kind.__module__}.{kind.__qualname__}"


_TREE = (StepTimeout, StepFailed, RunCancelled, RunTimeout, RunHalted, RunFailed)


def _again(cls: type[RecordedError], record: dict[str, Any]) -> RecordedError:
    return cls.restored(record)


def record_error(error: BaseException) -> dict[str, Any]:
    """Describe any exception in JSON-safe terms; never raises, whatever the exception's own methods
    do.
    """
    if isinstance(error, RecordedError) and error.type_name:
        return {
            "type": error.type_name,
            "message": error.message,
            "traceback": error.traceback_text,
        }
    kind = type(error)
    record: dict[str, Any] = {"type": type_name(kind)}
    try:
        record["message"] = _clean(str(error)[:_MAX_MESSAGE])
    except Exception as broken:  # noqa: BLE001 - a user's __str__
        record["message"] = f"<{kind.__qualname__}; its __str__ raised {type(broken).__name__}>"
    try:
        record["traceback"] = _clean("".join(traceback.format_exception(error, limit=-25))[-8000:])
    except Exception:  # noqa: BLE001 - a user's __repr__ or __cause__
        record["traceback"] = ""
    if all(type(a) in _PLAIN for a in error.args) and len(repr(error.args)) < 2000:
        record["args"] = [_clean(a) if isinstance(a, str) else a for a in error.args]
    return record


_MAX_MESSAGE = 100_000
_PLAIN = (str, int, bool, type(None))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\x00", "\\x00")


def _find_type(name: str) -> type[Exception] | None:
    """Find an exception type by its qualified name among what is already loaded; nothing is ever
    imported.
    """
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        found: Any = (
            builtins if parts[:cut] == ["builtins"] else sys.modules.get(".".join(parts[:cut]))
        )
        for part in parts[cut:]:
            found = getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
    return None


def _instance(
    cls: type[RecordedError], original: type[Exception] | None, args: list[Any] | None
) -> RecordedError:
    error: RecordedError | None = None
    if original is not None and issubclass(original, cls):
        error = original.__new__(original)
    elif original is not None and not issubclass(original, RecordedError):
        names = {"__module__": cls.__module__, "__doc__": cls.__doc__}
        # An original whose layout or __new__ doesn't allow it leaves its name and its text.
        with contextlib.suppress(Exception):
            both: Any = type(cls.__name__, (cls, original), names)
            error = both.__new__(both, *(args or ()))
    error = error or cls.__new__(cls)
    error.args = tuple(args or ())
    return error


class SourceNotFoundError(FlowError):
    """The source of a body is not to be had."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        super().__init__(f"no source for {what}: {reason}; define it in a file, with def or lambda")


class ManifestError(FlowError):
    """A manifest of bodies, or a stored journal, can't be read."""


class NoSchemaError(FlowError):
    """The database has no tables of this Flow."""

    def __init__(self, schema: str, address: str) -> None:
        self.schema, self.address = schema, address
        super().__init__(
            f"there is no Flow in schema {schema!r} at {address}: is it the right database, and "
            "does Flow(schema=...) name the right schema?"
        )


class AccessDeniedError(FlowError):
    """A principal may not do something, or nobody said who asks."""

    def __init__(self, action: str, what: str | None = None) -> None:
        self.action = action
        super().__init__(what or f"this principal may not do {action!r}: ask whoever grants it")


class ChangeRefusedError(FlowError):
    """An extension's on_transition failed; the change of status was undone."""

    def __init__(self, run_id: UUID, status: str, error: BaseException) -> None:
        self.run_id, self.status = run_id, status
        super().__init__(
            f"run {run_id} does not become {status}: on_transition failed with "
            f"{type(error).__name__}: {error}"
        )


class SchemaTooOldError(FlowError):
    """The schema lacks migrations of this release."""

    def __init__(self, schema: str, found: int, known: int) -> None:
        self.schema, self.found, self.known = schema, found, known
        super().__init__(
            f"schema {schema!r} is at migration {found}, this release needs {known}: run "
            "forktex-flow migrate first"
        )


class QueryError(FlowError, ValueError):
    """A filter, an order, a page size or a cursor of ``flow.runs`` is malformed."""
