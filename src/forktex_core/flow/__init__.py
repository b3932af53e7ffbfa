# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Durable execution on Postgres: workflows that survive the death of any process, and state
machines on the same log.
"""

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
from forktex_core.flow.inspect.statement import Condition
from forktex_core.flow.inspect.timeline import Attempt, Event, Timeline, WorkerLife
from forktex_core.flow.offering import GraphPosition, Receipt
from forktex_core.flow.queueing import QueueState
from forktex_core.flow.retaining import RetentionRule
from forktex_core.flow.retry import Retry
from forktex_core.flow.scheduling import Schedule
from forktex_core.flow.shown import Progress
from forktex_core.flow.step_context import StepContext
from forktex_core.flow.transitions import IllegalTransitionError
from forktex_core.flow.workflow import Step, StepOptions, Workflow

__all__ = [
    "Attempt",
    "ChildHandle",
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
    "LeaderState",
    "Library",
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
    "RunFailed",
    "RunFinishedError",
    "RunHalted",
    "RunInfo",
    "RunNotFoundError",
    "RunTimeout",
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
    "Timeline",
    "Transition",
    "UnknownScheduleError",
    "UnknownWorkflowError",
    "Unserved",
    "WorkerLife",
    "WorkerSettings",
    "WorkerState",
    "Workflow",
]
