# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What reading a state machine of another notation gives: see xstate.py and scxml.py."""

import json
from dataclasses import dataclass, field
from typing import Any

from forktex_core.flow.graph.definition import Graph
from forktex_core.flow.graph.library import Library
from forktex_core.flow.graph.validation import Problem


@dataclass(slots=True)
class Imported:
    """What a machine became.

    Args:
        document: the graph's document, as plain data.
        unmapped: what has no counterpart and was left out: ``path`` is a JSON pointer into an
            XState machine, or an XPath into an SCXML document.
    """

    document: dict[str, Any]
    unmapped: list[Problem] = field(default_factory=list)

    def graph(self, library: Library | None = None) -> Graph:
        """Return the graph; raise GraphError with what is wrong with it, unknown names included."""
        from forktex_core.flow.graph.document import from_json  # it loads pydantic

        return from_json(json.dumps(self.document), library)
