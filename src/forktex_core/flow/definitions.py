# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs that are kept in the database: immutable numbered versions per namespace, and moving live
runs from one version to another.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from forktex_core.flow.client import Client, Target
from forktex_core.flow.codec import ANY
from forktex_core.flow.errors import DefinitionError, FlowError
from forktex_core.flow.gate import guarded, of_process
from forktex_core.flow.graph.definition import Graph
from forktex_core.flow.graph.library import Library
from forktex_core.flow.graph.stored import (
    LANE,
    GraphNotFoundError,
    StoredGraphs,
    check_namespace,
    split_name,
    workflow_name,
)
from forktex_core.flow.graph.walk import POSITION, GraphWorkflow, Position
from forktex_core.flow.store.graphs import GraphStore

_ANYTHING: Any = object()
_FIRST = UUID(int=0)


class GraphConflictError(FlowError):
    """Somebody else changed a graph in between: nothing was changed."""

    def __init__(self, namespace: str, name: str, expected: int | None, found: int | None) -> None:
        self.namespace, self.name = namespace, name
        self.expected, self.found = expected, found
        super().__init__(
            f"graph {name!r} of {namespace!r} is at version {found}, not {expected}: look at what "
            "changed (diff()), and try again from there"
        )


@dataclass(frozen=True, slots=True)
class StoredGraph:
    """A graph of a namespace: its newest version, the one for new runs (None: it is retired, or was
    never activated), and when either changed last.
    """

    name: str
    latest: int
    active: int | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class GraphDiff:
    """What differs between two versions: JSON pointers of what was added, removed and changed."""

    added: list[str]
    removed: list[str]
    changed: list[str]


@dataclass(slots=True)
class Migration:
    """What became of the runs of a version: those that moved (or would), and why others can't."""

    moved: list[UUID] = field(default_factory=list)
    stuck: dict[UUID, str] = field(default_factory=dict)


class Definitions:
    """Graphs as data, by namespace. Get it as ``flow.definitions``."""

    def __init__(self, flow: "Client") -> None:
        self._flow = flow

    @property
    def _client(self) -> "Client":
        return self._flow

    def _on(self, client: "Client") -> "Definitions":
        return Definitions(client)

    @property
    def _store(self) -> GraphStore:
        return self._flow._open.graphs  # noqa: SLF001 - a part of the Flow

    @property
    def _stored(self) -> StoredGraphs:
        found = self._flow._registry.stored  # noqa: SLF001 - a part of the Flow
        if found is None:
            raise DefinitionError("this Flow serves no stored graphs: Flow.serve_graphs(library)")
        return found  # type: ignore[no-any-return]

    @guarded("definition.change")
    async def save(self, namespace: str, graph: Graph | str, *, expected: int | None = None) -> int:
        """Save the next version of a graph and return its number. It is not active yet.

        Args:
            namespace: whose graph it is, such as a tenant's id.
            graph: a graph, or its document as JSON text. Its own version number doesn't count.
            expected: the newest version that the caller knows of (0: none): if there is another,
                nothing is saved.

        Raises:
            GraphError: with every problem of the document.
            GraphConflictError: there is another version.
        """
        from forktex_core.flow.graph.document import from_json, to_json

        check_namespace(namespace)
        library = self._stored.library
        text = to_json(graph, library) if isinstance(graph, Graph) else graph
        checked = from_json(text, library)
        text = to_json(checked, library)
        done = await self._store.save_graph(namespace, checked.name, text, expected)
        if done["outcome"] == "lost":
            raise GraphConflictError(namespace, checked.name, expected, done["version"])
        return int(done["version"])

    @guarded("definition.read")
    async def get(self, namespace: str, name: str, version: int | None = None) -> Graph:
        """Return a version of a graph, the newest by default.

        Raises:
            GraphNotFoundError: the namespace has none.
        """
        from forktex_core.flow.graph.document import from_json

        version = version or (await self._head(namespace, name))["latest"]
        document = await self._store.graph_document(namespace, name, version)
        if document is None:
            raise GraphNotFoundError(namespace, name, version)
        graph = from_json(document, self._stored.library)
        graph.version = version
        return graph

    @guarded("definition.read")
    async def list(self, namespace: str, *, after: str = "", limit: int = 100) -> list[StoredGraph]:
        """Return a page of a namespace's graphs by name, those after a name; documents are not
        read.
        """
        check_namespace(namespace)
        if not 1 <= limit <= 1000:
            raise ValueError(f"limit must lie between 1 and 1000, not {limit}")
        rows = await self._store.list_graphs(namespace, after, limit)
        return [StoredGraph(r["name"], r["latest"], r["active"], r["changed_at"]) for r in rows]

    @guarded("definition.read")
    async def diff(self, namespace: str, name: str, old: int, new: int) -> GraphDiff:
        """Return what differs between two versions.

        Raises:
            GraphNotFoundError: the namespace lacks one of them.
        """
        from forktex_core.flow.graph.document import to_json

        library = self._stored.library
        texts = [to_json(await self.get(namespace, name, v), library) for v in (old, new)]
        return difference(*(json.loads(text) for text in texts))

    @guarded("definition.change")
    async def activate(
        self, namespace: str, name: str, version: int, *, expected: int | None = _ANYTHING
    ) -> None:
        """Let new runs have a version, from now on and in every process; runs that have begun stay
        on theirs.

        Args:
            namespace: whose graph it is.
            name: the graph.
            version: the version, newer or older.
            expected: the version that the caller believes is active (None: none): if another one
                is, nothing changes.

        Raises:
            GraphNotFoundError: the namespace has no such version.
            GraphConflictError: another version is active than expected.
        """
        await self._switch(namespace, name, version, expected)

    @guarded("definition.change")
    async def retire(self, namespace: str, name: str, *, expected: int | None = _ANYTHING) -> None:
        """Let no new run of a graph begin; those that have begun go on.

        Raises:
            GraphNotFoundError: the namespace has no such graph.
            GraphConflictError: another version is active than expected.
        """
        await self._switch(namespace, name, None, expected)

    async def _switch(self, namespace: str, name: str, version: int | None, expected: Any) -> None:
        check = expected is not _ANYTHING
        done = await self._store.activate_graph(
            namespace, name, version, check=check, expected=expected if check else None
        )
        if done:
            return
        head = await self._head(namespace, name)
        if version is not None and not await self._store.graph_document(namespace, name, version):
            raise GraphNotFoundError(namespace, name, version)
        raise GraphConflictError(namespace, name, expected if check else None, head["active"])

    async def _head(self, namespace: str, name: str) -> Any:
        head = await self._store.graph_head(check_namespace(namespace), name)
        if head is None:
            raise GraphNotFoundError(namespace, name)
        return head

    @guarded("definition.migrate")
    async def migrate_runs(
        self,
        name: str,
        from_version: int,
        to_version: int,
        *,
        state_map: Mapping[str, str] | None = None,
        payload: Callable[[Any], Any] | None = None,
        dry_run: bool = False,
    ) -> Migration:
        """Move the live runs of a version to another one, each in a transaction of its own.

        A run moves if it waits in a state of its own graph (not within a fork or sub-graph) that
        has a counterpart in the new version. There it is entered anew, with its entry action and
        its function.

        Args:
            name: the graph's name, ``@namespace/name`` for a stored one.
            from_version: the version that the runs are on.
            to_version: the version to move them to.
            state_map: the new states by the old ones; a state that is not in it keeps its name.
            payload: a function that makes the new payload of the old one.
            dry_run: change nothing, only tell.

        Raises:
            GraphNotFoundError, UnknownWorkflowError: there is no such version.
        """
        target = await self._version(name, to_version)
        move = _Move(target, state_map or {}, payload, dry_run)
        report, after = Migration(), _FIRST
        while rows := await self._store.runs_of_version(name, from_version, after):
            for row in rows:
                run_id = UUID(bytes=row["id"].bytes)
                try:
                    await self._move(row, move)
                    report.moved.append(run_id)
                except _StuckError as stuck:
                    report.stuck[run_id] = str(stuck)
            after = run_id
        return report

    async def _version(self, name: str, version: int) -> GraphWorkflow:
        if name.startswith("@"):
            namespace, bare = split_name(name)
            if not self._store.has(namespace):  # it may be compiled already, for its own tenant
                raise GraphNotFoundError(namespace, bare, version)
            fetch = self._flow._fetch_graph  # noqa: SLF001 - a part of the Flow
            return await self._stored.load(name, version, fetch)
        registry = self._flow._registry  # noqa: SLF001 - a part of the Flow
        found = registry.find(name, version)
        if not isinstance(found, GraphWorkflow):
            raise registry.unknown(name, version)
        return found

    async def _move(self, row: Any, move: "_Move") -> None:
        """Move one run; raise _StuckError when it can't be."""
        if row["status"] != "waiting" or (row["kind"], row["name"]) != ("effect", POSITION):
            raise _StuckError("it does not rest in a state")
        found = ANY.decode(self._store.decode(row["position"]), "the position")
        text = ANY.encode(move.position(found).dump(), "the position", 1 << 30)
        if move.dry_run:
            return
        run_id, target = UUID(bytes=row["id"].bytes), move.target
        done = await self._store.move_run(
            run_id, row["claim"], row["seq"], target.version, target.lane, text
        )
        if done["outcome"] != "done":
            raise _StuckError("it went on meanwhile")
        self._flow._tell_of_work(done["queue"])  # noqa: SLF001 - a part of the Flow


class _StuckError(Exception):
    """Why a run can't be moved."""


@dataclass(frozen=True, slots=True)
class _Move:
    target: GraphWorkflow
    state_map: Mapping[str, str]
    payload: Callable[[Any], Any] | None
    dry_run: bool

    def position(self, found: dict[str, Any]) -> Position:
        """Return where a run goes on, by where it was."""
        if found.get("regions"):
            raise _StuckError(f"it is inside of {found['state']!r}")
        state = self.state_map.get(found["state"], found["state"])
        if state not in self.target.graph.states:
            raise _StuckError(f"version {self.target.version} has no state {state!r}")
        value = self._payload(found["payload"])
        return Position(state, value, found["taken"], found["path"], {}, found["deferred"])

    def _payload(self, old: Any) -> Any:
        shape = self.target.input_shape
        assert shape is not None
        try:
            value = old if self.payload is None else self.payload(old)
            text = shape.encode(shape.validate(value, "the payload"), "the payload", 1 << 30)
        except Exception as error:
            raise _StuckError(f"its payload can't be taken over: {error}") from error
        return json.loads(text)


class Defining(Client):
    """The part of Flow that knows stored graphs."""

    @property
    def definitions(self) -> Definitions:
        """Graphs as data, by namespace."""
        return Definitions(self)

    @of_process
    def serve_graphs(self, library: Library) -> None:
        """Let this Flow's workers run stored graphs, which may name what the library offers. Call
        it before run_worker().
        """
        self._registry.stored = StoredGraphs(library, self._fetch_for_worker)

    async def _fetch_for_worker(self, namespace: str, name: str, version: int) -> str | None:
        return await self._trusted.graphs.graph_document(namespace, name, version)

    async def _stored_target(self, workflow: str, version: int | None) -> Target:
        namespace, name = split_name(workflow)
        head = await self._open.graphs.graph_head(namespace, name)
        if head is None:
            raise GraphNotFoundError(namespace, name)
        if head["active"] is None:
            raise DefinitionError(f"graph {name!r} of {namespace!r} is not active: activate() it")
        version = version or head["active"]
        stored = self._registry.stored
        if stored is not None:
            found = await stored.load(workflow, version, self._fetch_graph)
            return Target(workflow, version, LANE, found)
        if not await self._fetch_graph(namespace, name, version):
            raise GraphNotFoundError(namespace, name, version)
        return Target(workflow, version, LANE, None)


def difference(old: Any, new: Any, path: str = "") -> GraphDiff:
    """Return what differs between two documents, transitions by what they are."""
    found = GraphDiff([], [], [])
    _differ(_keyed(old), _keyed(new), path, found)
    return found


def _keyed(document: Any) -> Any:
    """Return a document with its transitions by source, target and trigger instead of a number."""
    if not isinstance(document, dict):
        return document
    keyed = {key: _keyed(value) for key, value in document.items() if key != "version"}
    if isinstance(keyed.get("transitions"), list):
        named: dict[str, Any] = {}
        for t in keyed["transitions"]:
            trigger = t.get("on") or (f"after {t['after']:g}" if "after" in t else "")
            key = f"{t['from']} -> {t['to']} {trigger}".strip()
            while key in named:
                key += "'"
            named[key] = t
        keyed["transitions"] = named
    return keyed


def _differ(old: Any, new: Any, path: str, found: GraphDiff) -> None:
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            found.changed.append(path)
        return
    for key in {**old, **new}:
        here = path + "/" + str(key).replace("~", "~0").replace("/", "~1")
        if key not in new:
            found.removed.append(here)
        elif key not in old:
            found.added.append(here)
        else:
            _differ(old[key], new[key], here, found)


__all__ = [
    "Definitions",
    "GraphConflictError",
    "GraphDiff",
    "GraphNotFoundError",
    "Migration",
    "StoredGraph",
    "workflow_name",
]
