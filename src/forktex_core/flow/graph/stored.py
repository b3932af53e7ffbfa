# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs that are kept in the database, as the workers of a process see them.

All of them share one lane, which every worker of a Flow that serves them offers. So a version that
is saved and activated later is claimed by workers that run already; they read and compile it when
they claim the first run of it, and only then. Versions never change, so what was compiled stays
right.
"""

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, override

from forktex_core.flow.errors import DefinitionError, FlowError
from forktex_core.flow.graph.library import Library
from forktex_core.flow.graph.walk import GraphWorkflow
from forktex_core.flow.workflow import Workflow

LANE = "@graphs"
_NAMESPACE = re.compile(r"[A-Za-z0-9][\w.:-]{0,99}", re.ASCII)
_MOST = 1000

type Fetch = Callable[[str, str, int], Awaitable[str | None]]


class GraphNotFoundError(FlowError):
    """A namespace has no such graph, or no such version of it."""

    def __init__(self, namespace: str, name: str, version: int | None = None) -> None:
        self.namespace, self.name, self.version = namespace, name, version
        what = f"graph {name!r}" + ("" if version is None else f" version {version}")
        super().__init__(f"namespace {namespace!r} has no {what}: save it there first")


def check_namespace(namespace: str) -> str:
    """Return a namespace; raise DefinitionError when it isn't one."""
    if _NAMESPACE.fullmatch(namespace) is None:
        raise DefinitionError(
            f"namespace {namespace!r:.120}: it must be 1 to 100 letters, digits, '_', '.', ':' or "
            "'-', and begin with a letter or digit"
        )
    return namespace


def workflow_name(namespace: str, name: str) -> str:
    """Return the name that runs of a stored graph are started by."""
    return f"@{check_namespace(namespace)}/{name}"


def split_name(workflow: str) -> tuple[str, str]:
    """Return namespace and name; raise DefinitionError when it is no stored graph's name."""
    namespace, slash, name = workflow.removeprefix("@").partition("/")
    if not workflow.startswith("@") or not slash or not name:
        raise DefinitionError(f"{workflow!r:.200} is no stored graph: write '@namespace/name'")
    return check_namespace(namespace), name


class StoredWorkflow(GraphWorkflow):
    """A stored graph, compiled."""

    @property
    @override
    def lane(self) -> str:
        """What a worker must serve to run it."""
        return LANE


class _Broken(Workflow[Any, Any]):
    kind = "graph"

    def __init__(self, name: str, version: int) -> None:
        async def body(_ctx: Any) -> None:
            raise AssertionError("a run of a graph that can't be read is halted before")

        super().__init__(body, name, version)


class StoredGraphs:
    """The compiled graphs of a process.

    Args:
        library: what their documents may name.
        fetch: reads a document by namespace, name and version.
    """

    def __init__(self, library: Library, fetch: Fetch) -> None:
        self.library = library
        self._fetch = fetch
        self._compiled: OrderedDict[tuple[str, int], StoredWorkflow] = OrderedDict()

    def find(self, name: str, version: int | None) -> StoredWorkflow | None:
        """Return a graph that is compiled already."""
        return None if version is None else self._compiled.get((name, version))

    async def load(self, name: str, version: int, fetch: Fetch | None = None) -> StoredWorkflow:
        """Return a graph, compiled now if it wasn't. ``fetch`` reads it for somebody who may not
        see all graphs: the caller has checked that it may see this one.

        Raises:
            GraphNotFoundError: there is none.
            GraphError: the library here doesn't have what it names.
        """
        from forktex_core.flow.graph.document import from_json

        key = (name, version)
        if key not in self._compiled:
            namespace, bare = split_name(name)
            document = await (fetch or self._fetch)(namespace, bare, version)
            if document is None:
                raise GraphNotFoundError(namespace, bare, version)
            graph = from_json(document, self.library)
            graph.name, graph.version = name, version
            self._compiled[key] = StoredWorkflow(graph)
        self._compiled.move_to_end(key)
        while len(self._compiled) > _MOST:
            self._compiled.popitem(last=False)
        return self._compiled[key]

    async def load_or_fault(
        self, name: str, version: int
    ) -> tuple[Workflow[Any, Any], Exception | None]:
        """Return a graph for a claimed run; with the reason if it can't be had."""
        try:
            return await self.load(name, version), None
        except (DefinitionError, GraphNotFoundError) as error:  # the run is halted with it
            return _Broken(name, version), error

    @property
    def compiled(self) -> int:
        """How many graphs are in memory."""
        return len(self._compiled)
