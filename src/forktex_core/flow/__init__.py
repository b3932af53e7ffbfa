# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Durable execution on Postgres: workflows that survive the death of any process, and state
machines on the same log.
"""

from typing import TYPE_CHECKING, Any

from forktex_core.flow.acting import ActingFlow
from forktex_core.flow.children import ChildHandle
from forktex_core.flow.context import FlowContext
from forktex_core.flow.control import Unserved
from forktex_core.flow.definitions import (
    Definitions,
    GraphConflictError,
    GraphDiff,
    GraphNotFoundError,
    Migration,
    StoredGraph,
)
from forktex_core.flow.engine.pruning import ExportedRun
from forktex_core.flow.engine.settings import WorkerSettings
from forktex_core.flow.errors import (
    AccessDeniedError,
    ChangeRefusedError,
    ContextMisuseError,
    DatabaseUnavailableError,
    DefinitionError,
    FlowError,
    FlowNotOpenError,
    ManifestError,
    NonDeterminismError,
    NoSchemaError,
    PayloadError,
    PayloadTooLargeError,
    QueryError,
    RunCancelled,
    RunConflictError,
    RunFailed,
    RunFinishedError,
    RunHalted,
    RunNotFoundError,
    RunTimeout,
    SchemaTooNewError,
    SchemaTooOldError,
    SourceNotFoundError,
    StepFailed,
    StepNotFoundError,
    StepTimeout,
    UnknownScheduleError,
    UnknownWorkflowError,
)
from forktex_core.flow.extending import SYSTEM
from forktex_core.flow.extension import (
    Action,
    Change,
    Column,
    Condition,
    FlowExtension,
    RunDraft,
    RunView,
    TransitionConnection,
)
from forktex_core.flow.flow import Flow
from forktex_core.flow.graph.condition import ConditionError
from forktex_core.flow.graph.definition import Graph, State, Transition
from forktex_core.flow.graph.errors import (
    GraphLimitError,
    NoTransitionError,
    StateTimeoutError,
)
from forktex_core.flow.graph.imported import Imported
from forktex_core.flow.graph.library import Library
from forktex_core.flow.graph.validation import GraphError, Problem
from forktex_core.flow.logs import JsonLines, LogContext
from forktex_core.flow.offering import GraphPosition, Receipt
from forktex_core.flow.queueing import QueueState
from forktex_core.flow.retaining import RetentionRule
from forktex_core.flow.retry import Retry
from forktex_core.flow.scheduling import Schedule
from forktex_core.flow.shown import Progress
from forktex_core.flow.step_context import StepContext
from forktex_core.flow.tenants import TenantExtension, install_row_security
from forktex_core.flow.transitions import IllegalTransitionError
from forktex_core.flow.workflow import Step, StepOptions, Workflow

if TYPE_CHECKING:
    from forktex_core.flow.inspect.doctor import Diagnosis, Examination
    from forktex_core.flow.inspect.explain import Finding
    from forktex_core.flow.inspect.fleet import (
        Fleet,
        LeaderState,
        QueueDepth,
        ServedDefinition,
        WorkerState,
    )
    from forktex_core.flow.inspect.rows import Page, RecordedFailure, RunDetail, RunInfo, Summary
    from forktex_core.flow.inspect.runs import Runs
    from forktex_core.flow.inspect.timeline import Attempt, Event, Timeline, WorkerLife

# What only those need who look at runs and workers: imported when it is first asked for.
_LATE = {
    "Diagnosis": "doctor",
    "Examination": "doctor",
    "Finding": "explain",
    "Fleet": "fleet",
    "LeaderState": "fleet",
    "QueueDepth": "fleet",
    "ServedDefinition": "fleet",
    "WorkerState": "fleet",
    "Page": "rows",
    "RecordedFailure": "rows",
    "RunDetail": "rows",
    "RunInfo": "rows",
    "Summary": "rows",
    "Runs": "runs",
    "Attempt": "timeline",
    "Event": "timeline",
    "Timeline": "timeline",
    "WorkerLife": "timeline",
}

__all__ = [
    "SYSTEM",
    "AccessDeniedError",
    "ActingFlow",
    "Action",
    "Attempt",
    "Change",
    "ChangeRefusedError",
    "ChildHandle",
    "Column",
    "Condition",
    "ConditionError",
    "ContextMisuseError",
    "DatabaseUnavailableError",
    "DefinitionError",
    "Definitions",
    "Diagnosis",
    "Event",
    "Examination",
    "ExportedRun",
    "Finding",
    "Fleet",
    "Flow",
    "FlowContext",
    "FlowError",
    "FlowExtension",
    "FlowNotOpenError",
    "Graph",
    "GraphConflictError",
    "GraphDiff",
    "GraphError",
    "GraphLimitError",
    "GraphNotFoundError",
    "GraphPosition",
    "IllegalTransitionError",
    "Imported",
    "JsonLines",
    "LeaderState",
    "Library",
    "LogContext",
    "ManifestError",
    "Migration",
    "NoSchemaError",
    "NoTransitionError",
    "NonDeterminismError",
    "Page",
    "PayloadError",
    "PayloadTooLargeError",
    "Problem",
    "Progress",
    "QueryError",
    "QueueDepth",
    "QueueState",
    "Receipt",
    "RecordedFailure",
    "RetentionRule",
    "Retry",
    "RunCancelled",
    "RunConflictError",
    "RunDetail",
    "RunDraft",
    "RunFailed",
    "RunFinishedError",
    "RunHalted",
    "RunInfo",
    "RunNotFoundError",
    "RunTimeout",
    "RunView",
    "Runs",
    "Schedule",
    "SchemaTooNewError",
    "SchemaTooOldError",
    "ServedDefinition",
    "SourceNotFoundError",
    "State",
    "StateTimeoutError",
    "Step",
    "StepContext",
    "StepFailed",
    "StepNotFoundError",
    "StepOptions",
    "StepTimeout",
    "StoredGraph",
    "Summary",
    "TenantExtension",
    "Timeline",
    "Transition",
    "TransitionConnection",
    "UnknownScheduleError",
    "UnknownWorkflowError",
    "Unserved",
    "WorkerLife",
    "WorkerSettings",
    "WorkerState",
    "Workflow",
    "install_row_security",
]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.inspect.{_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
