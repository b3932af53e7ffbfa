# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a run sends out: runs that it starts, signals, published values. Checked and encoded, not
yet written.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.retry import span
from forktex_core.flow.store.effects import NewSignal, Spawn
from forktex_core.flow.workflow import Workflow, check_name, check_priority

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution

PROGRESS = "$progress"


def check_signal(name: str) -> str:
    """Return a signal's name; raise DefinitionError when it isn't one that users may use."""
    if check_name(name, "signal").startswith("$"):
        raise DefinitionError(f"signal name {name!r}: names that begin with '$' are the engine's")
    return name


def check_published(key: str) -> str:
    """Return the key of a published value; raise DefinitionError when it isn't fit."""
    if check_name(key, "key").startswith("$"):
        raise DefinitionError(f"key {key!r}: keys that begin with '$' are the engine's")
    return key


def new_signal(run_id: UUID, name: str, payload: Any, limit: int) -> NewSignal:
    """Return a signal to a run; raise PayloadError when its payload can't be carried."""
    text = Shape(type(payload)).encode(payload, f"the payload of signal {name!r}", limit)
    return NewSignal(run_id, check_signal(name), text)


def new_run(
    execution: "Execution",
    run_id: UUID,
    workflow: str | Workflow[Any, Any],
    input: Any,
    *,
    queue: str,
    version: int | None = None,
    priority: int = 0,
    delay: float | timedelta | None = None,
    metadata: dict[str, Any] | None = None,
) -> Spawn:
    """Return a run of a workflow that is registered here, or whose version is given.

    Raises UnknownWorkflowError for any other, PayloadError when the input doesn't fit.
    """
    name = workflow if isinstance(workflow, str) else workflow.name
    if not isinstance(workflow, str) and version is None:
        version = workflow.version
    host = execution.host
    found = host.registry.find(name, version)
    version = version if found is None else found.version
    if version is None:
        raise host.registry.unknown(name, version)
    due = None if delay is None else datetime.fromtimestamp(host.now() + span(delay, "delay"), UTC)
    return Spawn(
        id=run_id,
        workflow=name,
        version=version,
        lane="@graphs" if name.startswith("@") else f"{name}@{version}",
        queue=check_name(queue, "queue"),
        priority=check_priority(priority),
        due=due,
        input=_encode_input(found, name, input, host.max_payload),
        metadata=ANY.encode(metadata or {}, "metadata", host.max_payload),
    )


def _encode_input(workflow: Workflow[Any, Any] | None, name: str, value: Any, limit: int) -> str:
    what = f"the input of {name!r}"
    if workflow is None:
        return ANY.encode(value, what, limit)
    if workflow.input_shape is None:
        if value is not None:
            raise DefinitionError(f"workflow {name!r} takes no input, but one was given")
        return "null"
    return workflow.input_shape.encode(workflow.input_shape.validate(value, what), what, limit)
