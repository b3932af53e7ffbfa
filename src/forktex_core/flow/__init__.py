# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Durable execution on Postgres: workflows that survive the death of any process, and state
machines on the same log.
"""

from forktex_core.flow.context import FlowContext, StepContext
from forktex_core.flow.engine.worker import WorkerSettings
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
    RunCancelled,
    RunFailed,
    RunFinishedError,
    RunHalted,
    RunNotFoundError,
    SchemaTooNewError,
    SourceNotFoundError,
    StepFailed,
    StepTimeout,
    UnknownWorkflowError,
)
from forktex_core.flow.flow import Flow
from forktex_core.flow.graph.graph import Graph, GraphLimitError, NoTransitionError
from forktex_core.flow.retry import Retry
from forktex_core.flow.transitions import IllegalTransitionError
from forktex_core.flow.workflow import Step, StepOptions, Workflow

__all__ = [
    "ContextMisuseError",
    "DatabaseUnavailableError",
    "DefinitionError",
    "Flow",
    "FlowContext",
    "FlowError",
    "FlowNotOpenError",
    "Graph",
    "GraphLimitError",
    "IllegalTransitionError",
    "ManifestError",
    "NoSchemaError",
    "NoTransitionError",
    "NonDeterminismError",
    "PayloadError",
    "PayloadTooLargeError",
    "Retry",
    "RunCancelled",
    "RunFailed",
    "RunFinishedError",
    "RunHalted",
    "RunNotFoundError",
    "SchemaTooNewError",
    "SourceNotFoundError",
    "Step",
    "StepContext",
    "StepFailed",
    "StepOptions",
    "StepTimeout",
    "UnknownWorkflowError",
    "WorkerSettings",
    "Workflow",
]
