# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a run of a graph fails with. All are DefinitionErrors: the graph has to be mended."""

from forktex_core.flow.errors import DefinitionError


class GraphLimitError(DefinitionError):
    """A run took more transitions than its graph allows."""

    def __init__(self, graph: str, limit: int) -> None:
        self.graph, self.limit = graph, limit
        super().__init__(
            f"graph {graph!r} took more than {limit} transitions: a cycle without an exit?"
        )


class NoTransitionError(DefinitionError):
    """No guard of a state's transitions holds."""

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(
            f"no transition out of state {state!r} holds for the payload: add one without a guard"
        )


class StateTimeoutError(DefinitionError, TimeoutError):
    """A state took longer than its timeout, and names no state for that."""

    def __init__(self, state: str, timeout: float) -> None:
        self.state, self.timeout = state, timeout
        super().__init__(
            f"state {state!r} was not left within {timeout:g} s: name a state in on_error= for that"
        )
