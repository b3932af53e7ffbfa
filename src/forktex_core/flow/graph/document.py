# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs as data: JSON that end users write, read with suspicion.

The order of the checks is what keeps a hostile text cheap: its size, then its nesting (counted in
the text, before any parser recurses), then JSON with every key once, then the form (pydantic
models, which the published JSON Schema is made from), then names, and last the graph itself. Each
check tells all that it finds; the next one is only made if it found nothing, save that names and
graph are checked together.
"""

import json
import re
import unicodedata
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.graph.condition import MAX_LENGTH, Condition
from forktex_core.flow.graph.definition import Actions, Graph, State, Transition
from forktex_core.flow.graph.library import Library
from forktex_core.flow.graph.validation import GraphError, Problem, pointer, validate
from forktex_core.flow.retry import Retry, seconds

MAX_BYTES = 1024 * 1024
MAX_NESTING = 40
MAX_STATES = 2_000
MAX_TRANSITIONS = 10_000
MAX_PROBLEMS = 100
_BRANCHES = frozenset(("GuardPart", "constrained-str", "list[constrained-str]"))
_BRACKETS = re.compile(r'"(?:\\.|[^"\\])*"|[\[\]{}]', re.DOTALL)

type Name = Annotated[str, Field(min_length=1, max_length=200)]
type Names = Name | Annotated[list[Name], Field(min_length=1, max_length=20)]
type Seconds = Annotated[float, Field(gt=0, lt=1e10)]
type Number = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class RetryPart(_Part):
    """How a state's action is tried again."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    initial: Annotated[float, Field(ge=0, lt=1e7)] = 0.5
    backoff: Annotated[float, Field(ge=1, le=100)] = 2.0
    max_interval: Annotated[float, Field(ge=0, lt=1e7)] = 60.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2


class GuardPart(_Part):
    """A guard by its registered name."""

    guard: Name


class StatePart(_Part):
    """A state. ``action``, ``entry``, ``exit`` and ``merge`` are registered names; a list of
    entries or exits runs in order.
    """

    action: Name | None = None
    manual: bool = False
    terminal: bool = False
    entry: Names | None = None
    exit: Names | None = None
    timeout: Seconds | None = None
    retries: RetryPart | None = None
    on_error: Name | None = None
    unhandled: Literal["keep", "reject", "defer"] | None = None
    graph: "GraphPart | None" = None
    regions: dict[Name, "GraphPart"] | None = Field(default=None, min_length=1, max_length=100)
    join: Annotated[int, Field(ge=1)] | None = None
    merge: Name | None = None
    history_of: Name | None = None


class TransitionPart(_Part):
    """A transition. ``when`` is a CEL expression, or a guard's registered name."""

    source: Name = Field(alias="from")
    target: Name = Field(alias="to")
    on: Name | None = None
    when: Annotated[str, Field(max_length=MAX_LENGTH)] | GuardPart | None = None
    after: Seconds | None = None
    priority: Number = 0
    action: Names | None = None
    merge: Name | None = None
    internal: bool = False


class GraphPart(_Part):
    """A graph. ``payload`` and ``merge`` are registered names."""

    name: Name
    version: Annotated[int, Field(ge=1, lt=2**31)] = 1
    initial: Name
    max_transitions: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    continue_after: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    unhandled: Literal["keep", "reject", "defer"] = "keep"
    payload: Name | None = None
    merge: Name | None = None
    states: dict[Name, StatePart] = Field(min_length=1, max_length=MAX_STATES)
    transitions: list[TransitionPart] = Field(default=[], max_length=MAX_TRANSITIONS)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a graph's document: the published one.

    Not made anew: what pydantic before 2.11 writes says less (nothing of the names of states)."""
    file = resources.files("forktex_core.flow.graph") / "graph.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def schema_of_models() -> dict[str, Any]:
    """Return the schema that the installed pydantic makes of the models: what is published."""
    found = GraphPart.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


# Reading


def from_json(text: str | bytes, library: Library | None = None) -> Graph:
    """Return the graph of a document; raise GraphError with its problems."""
    part = parse(text)
    graph = _Reader(library or Library()).graph(part, "")
    if problems := validate(graph):
        raise GraphError(graph.name, problems[:MAX_PROBLEMS])
    return graph


def parse(text: str | bytes) -> GraphPart:
    """Return a document whose form is right; raise GraphError otherwise."""
    found = load(text)
    try:
        return GraphPart.model_validate(found)
    except ValidationError as error:
        name = found.get("name", "?") if isinstance(found, dict) else "?"
        details = error.errors(include_url=False, include_input=False)[:MAX_PROBLEMS]
        problems = [Problem("wrong-form", _path(d["loc"]), _told(d)) for d in details]
        raise GraphError(str(name)[:200], problems) from None


def _path(loc: tuple[int | str, ...]) -> str:
    # pydantic names the branch of a union that it tried; that is no part of the document.
    return pointer(*(p for p in loc if p not in _BRANCHES))


def _told(detail: Any) -> str:
    return f"{_path(detail['loc']) or 'the document'}: {detail['msg']}"


def load(text: str | bytes) -> Any:
    """Return the JSON of a text that may be hostile; raise GraphError when it is refused."""
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise refused("too-large", f"it is {size:,} bytes long, {MAX_BYTES:,} are allowed")
    try:
        plain = text.decode() if isinstance(text, bytes) else text
        _check_nesting(plain)
        return json.loads(plain, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise refused("wrong-json", f"it is no JSON: {error}") from None


def _check_nesting(text: str) -> None:
    depth = 0
    for match in _BRACKETS.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > MAX_NESTING:
                raise refused("nested-too-deep", f"it is nested more than {MAX_NESTING} deep")
        elif match[0] in "]}":
            depth -= 1


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r:.200} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def refused(code: str, what: str) -> GraphError:
    """Return the error of a text that is not looked at any further."""
    return GraphError("?", [Problem(code, "", f"the document is refused: {what}")])


class _Reader:
    def __init__(self, library: Library) -> None:
        self._library = library
        self._states = 0

    def graph(self, part: GraphPart, base: str) -> Graph:
        """Build one graph and those in it; what it can't find becomes a problem of the graph."""
        self._states += len(part.states)
        if self._states > MAX_STATES:
            raise refused("too-large", f"it has more than {MAX_STATES} states")
        problems = [
            Problem("wrong-name", base + path, message)
            for path, name in _names(part)
            if (message := _odd(name)) is not None
        ]
        if problems:
            raise GraphError(part.name[:200], problems[:MAX_PROBLEMS])
        graph = Graph(
            part.name, version=part.version, initial=part.initial,
            max_transitions=part.max_transitions,
            continue_after=part.continue_after, unhandled=part.unhandled,
        )  # fmt: skip
        graph.payload = self._find(graph, "payload", part.payload, "/payload")
        graph.merge = self._find(graph, "merge", part.merge, "/merge")
        try:
            for name, state in part.states.items():
                self._state(graph, name, state, base)
            for number, transition in enumerate(part.transitions):
                self._transition(graph, number, transition)
        except DefinitionError as error:
            raise self._wrong(graph, base, error) from None
        return graph

    @staticmethod
    def _wrong(graph: Graph, base: str, error: DefinitionError) -> GraphError:
        if isinstance(error, GraphError):
            return error
        where = base + pointer("transitions", len(graph.transitions))
        if not graph.transitions:
            where = base + "/states"
        return GraphError(graph.name, [Problem("wrong-form", where, str(error))])

    def _find(self, graph: Graph, kind: str, name: str | None, path: str) -> Any:
        if name is None:
            return None
        found = self._library.get(kind, name)
        if found is None:
            known = ", ".join(self._library.names(kind)[:20]) or "none"
            graph.missing.append((path, f"there is no {kind} {name!r}; known are: {known}"))
        return found

    def _actions(self, graph: Graph, names: str | list[str] | None, path: str) -> Any:
        if not isinstance(names, list):
            return self._find(graph, "action", names, path)
        return [
            self._find(graph, "action", name, path + pointer(number))
            for number, name in enumerate(names)
        ]

    def _state(self, graph: Graph, name: str, part: StatePart, base: str) -> None:
        here = pointer("states", name)
        regions = dict(part.regions or {})
        if part.graph is not None:
            regions[""] = part.graph
        if part.graph is not None and part.regions is not None:
            raise DefinitionError(f"state {name!r} can't have both a graph and regions")
        if part.join is not None and part.join > len(regions):
            raise DefinitionError(f"state {name!r}: join is more than the regions that it has")
        graph.add_state(
            name,
            self._find(graph, "action", part.action, here + "/action"),
            manual=part.manual,
            terminal=part.terminal,
            entry=self._actions(graph, part.entry, here + "/entry"),
            exit=self._actions(graph, part.exit, here + "/exit"),
            merge=self._find(graph, "merge", part.merge, here + "/merge"),
            timeout=part.timeout,
            on_error=part.on_error,
            unhandled=part.unhandled,
            join=part.join,
            history_of=part.history_of,
            regions={
                key: self.graph(inner, base + here + (pointer("regions", key) if key else "/graph"))
                for key, inner in regions.items()
            },
        )
        if part.retries is not None:
            graph.states[name].retries = Retry(**part.retries.model_dump())

    def _transition(self, graph: Graph, number: int, part: TransitionPart) -> None:
        here = pointer("transitions", number)
        when: Any = part.when
        if isinstance(when, GuardPart):
            when = self._find(graph, "guard", when.guard, here + "/when/guard")
        graph.transition(
            part.source, part.target, on=part.on, when=when, after=part.after,
            priority=part.priority, internal=part.internal,
            action=self._actions(graph, part.action, here + "/action"),
            merge=self._find(graph, "merge", part.merge, here + "/merge"),
        )  # fmt: skip


def _names(part: GraphPart) -> list[tuple[str, str]]:
    found = [("/name", part.name)]
    for name, state in part.states.items():
        found.append((pointer("states", name), name))
        found += [(pointer("states", name, "regions", r), r) for r in state.regions or ()]
    found += [
        (pointer("transitions", number, "on"), t.on)
        for number, t in enumerate(part.transitions)
        if t.on is not None
    ]
    return found


def _odd(name: str) -> str | None:
    """Say what is wrong with a name that could be taken for another, or that hides something."""
    if not name.isprintable() or name != name.strip():
        return f"the name {name!r:.120} has characters that can't be seen"
    if unicodedata.normalize("NFKC", name) != name:
        return f"the name {name!r:.120} has characters that look like others: write it in NFKC"
    if name[0] in "$@!" or "/" in name:
        return f"the name {name!r:.120} can't begin with $, @ or !, nor have a slash"
    return None


# Writing


def to_json(graph: Graph, library: Library | None = None) -> str:
    """Return a graph as JSON text."""
    part = _Writer(library or Library()).graph(graph)
    return json.dumps(part, ensure_ascii=False, indent=2)


class _Writer:
    def __init__(self, library: Library) -> None:
        self._library = library

    def graph(self, graph: Graph) -> dict[str, Any]:
        """Return a graph as plain data, without what is as by default."""
        return _lean(
            GraphPart,
            {
                "name": graph.name,
                "version": graph.version,
                "initial": graph.initial,
                "max_transitions": graph.max_transitions,
                "continue_after": graph.continue_after,
                "unhandled": graph.unhandled,
                "payload": self._name("payload", graph.payload),
                "merge": self._name("merge", graph.merge),
                "states": {name: self._state(state) for name, state in graph.states.items()},
                "transitions": [self._transition(t) for t in graph.transitions],
            },
        )

    def _name(self, kind: str, thing: Any) -> str | None:
        return None if thing is None else self._library.name_of(kind, thing)

    def _actions(self, action: Any) -> str | list[str] | None:
        if not isinstance(action, Actions):
            return self._name("action", action)
        return [self._library.name_of("action", one) for one in action.functions]

    def _state(self, s: State) -> dict[str, Any]:
        regions = {name: self.graph(g) for name, g in s.regions.items()}
        return _lean(
            StatePart,
            {
                "action": self._name("action", s.function),
                "manual": s.manual,
                "terminal": s.terminal,
                "entry": self._actions(s.entry),
                "exit": self._actions(s.exit),
                "timeout": s.timeout,
                "retries": _retries(s.retries),
                "on_error": s.on_error,
                "unhandled": s.unhandled,
                "graph": regions.pop("", None),
                "regions": regions or None,
                "join": s.join,
                "merge": self._name("merge", s.merge),
                "history_of": s.history_of,
            },
        )

    def _transition(self, t: Transition) -> dict[str, Any]:
        when: Any = t.when
        if isinstance(when, Condition):
            when = when.source
        elif when is not None:
            when = {"guard": self._name("guard", when)}
        return {
            "from": t.source,
            "to": t.target,
            **_lean(
                TransitionPart,
                {
                    "on": t.on,
                    "when": when,
                    "after": t.after,
                    "priority": t.priority,
                    "action": self._actions(t.action),
                    "merge": self._name("merge", t.merge),
                    "internal": t.internal,
                },
            ),
        }


def _retries(retries: Retry) -> dict[str, Any] | None:
    if retries.max_attempts == 1:
        return None
    plain = Retry()
    if (retries.retry_on, retries.give_up_on) != (plain.retry_on, plain.give_up_on):
        raise DefinitionError("retry_on and give_up_on of a state's retries have no form as data")
    return {
        "max_attempts": retries.max_attempts or 1000,
        "initial": seconds(retries.initial),
        "backoff": float(retries.backoff),
        "max_interval": seconds(retries.max_interval),
        "jitter": float(retries.jitter),
    }


def _lean(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    fields = model.model_fields
    return {
        key: value
        for key, value in values.items()
        if fields[key].is_required() or value != fields[key].default
    }
