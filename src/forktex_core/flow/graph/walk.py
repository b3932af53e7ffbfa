# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Walks a graph: the body of the workflow that each graph is compiled into.

Protocol. Whatever a walk decides is a function of the payload and of what the journal delivers, so
replay takes the same way; nothing of the walk itself is recorded, save at rest:

- Before it waits, a walk publishes its position (state, payload, path; see Journey). That is an
  entry of the journal, committed with the published row: if it is the last entry of a run that
  waits, the run stands exactly there. migrate_runs builds on this.
- Between automatic states the position is only shown, at most once in a tenth of a second, and not
  recorded: twenty automatic states cost what their steps cost.
- After ``continue_after`` transitions the outermost walk continues as new, with its position as the
  input of the next generation (Position). An input of that form is believed only from a run that
  did continue (or is a fork of one): nobody can start a run in the middle of a graph.

A state with regions runs a walk for each in a branch of its own, and races them against its own
signals and timers. If it is left early, the positions of its regions are its history, and the exit
actions of the states inside run before its own, the innermost first.
"""

import asyncio
import copy
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from forktex_core.flow import concurrency
from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.context import FlowContext
from forktex_core.flow.errors import PayloadError
from forktex_core.flow.graph.condition import Condition, ConditionError
from forktex_core.flow.graph.definition import ADVANCE, Graph, State, Transition
from forktex_core.flow.graph.errors import (
    GraphLimitError,
    NoTransitionError,
    StateTimeoutError,
)
from forktex_core.flow.graph.payload import RECEIPT, merge, opened, with_error
from forktex_core.flow.retry import NO_RETRY
from forktex_core.flow.store.effects import NewValue
from forktex_core.flow.workflow import Workflow

POSITION = "$graph"
MAX_PATH = 200
_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_SHOW_EVERY = 0.1

type Timer = tuple[float, Transition | None]


@dataclass(slots=True)
class Position:
    """Where a run goes on: the input of a run that continues as new, or is moved."""

    state: str
    payload: Any
    taken: int = 0
    path: list[str] = field(default_factory=list)
    histories: dict[str, Any] = field(default_factory=dict)
    deferred: list[Any] = field(default_factory=list)

    def dump(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {
            POSITION: {
                "state": self.state, "payload": self.payload, "taken": self.taken,
                "path": self.path, "histories": self.histories, "deferred": self.deferred,
            }
        }  # fmt: skip


class GraphInput(Shape):
    """A graph's input: the payload, or a Position when a run continues."""

    def validate(self, value: Any, what: str) -> Any:
        """Check a payload against the graph's model."""
        if isinstance(value, Position):
            return value
        if isinstance(value, dict) and POSITION in value:
            raise PayloadError(f"{what} has a key {POSITION!r}: that one is the engine's own")
        return super().validate(value, what)

    def encode(self, value: Any, what: str, limit: int) -> str:
        """Return JSON text."""
        if isinstance(value, Position):
            return ANY.encode(value.dump(), what, limit)
        return super().encode(value, what, limit)

    def decode(self, text: str | None, what: str) -> Any:
        """Return the payload, or the plain data of a Position."""
        if text is not None and text.startswith(f'{{"{POSITION}":'):
            return ANY.decode(text, what)
        return super().decode(text, what)


class GraphWorkflow(Workflow[Any, Any]):
    """The workflow that walks a graph."""

    kind = "graph"

    def __init__(self, graph: Graph) -> None:
        async def walk(ctx: FlowContext, payload: Any = None) -> Any:
            return await _outermost(graph, ctx, payload)

        super().__init__(walk, graph.name, graph.version)
        self.graph = graph
        self.input_shape = GraphInput() if graph.payload is None else GraphInput(graph.payload)
        self.output_shape = ANY
        _prepare(graph)


def _prepare(graph: Graph) -> None:
    """Compute what every walk of the graph needs."""
    pending = [graph]
    while pending:
        here = pending.pop()
        here.compiled = Exits(here)
        pending += [region for s in here.states.values() for region in s.regions.values()]


class Exits:
    """The transitions of a graph, sorted by what takes them."""

    __slots__ = ("automatic", "events", "plain", "shape", "signals", "timed")

    def __init__(self, graph: Graph) -> None:
        self.automatic: dict[str, list[Transition]] = {}
        self.timed: dict[str, list[Transition]] = {}
        self.signals: dict[str, dict[str, list[Transition]]] = {}
        self.shape = None if graph.payload is None else Shape(graph.payload)
        self.plain = frozenset(s.name for s in graph.states.values() if _is_plain(graph, s))
        events: dict[str, None] = {}
        for name, transitions in graph.leaving().items():
            state = graph.states[name]
            default = ADVANCE if state.manual else None
            signals: dict[str, list[Transition]] = {}
            for t in transitions:
                on = t.on or (default if t.after is None else None)
                if on is not None:
                    signals.setdefault(on, []).append(t)
                    events[on] = None
            self.signals[name] = signals
            self.timed[name] = [t for t in transitions if t.after is not None]
            self.automatic[name] = [
                t for t in transitions if t.on is None and t.after is None and not state.manual
            ]
        self.events = list(events)


def _is_plain(graph: Graph, state: State) -> bool:
    """Say whether to enter a state is to call its function, and nothing else."""
    return (
        state.function is not None
        and state.entry is None
        and state.timeout is None
        and state.retries is NO_RETRY
        and graph.payload is None
    )


async def _outermost(graph: Graph, ctx: FlowContext, value: Any) -> Any:
    start = Position(graph.initial, value)
    if isinstance(value, dict) and POSITION in value:
        execution = ctx._execution  # noqa: SLF001 - a graph's body is a part of the engine
        if not execution.generation:
            raise PayloadError(f"the input has a key {POSITION!r}: that one is the engine's own")
        start = Position(**value[POSITION])
    journey = Journey(ctx, graph, start)
    journey.root = Walk(graph, journey, "")
    payload = await journey.root.run(start)
    journey.show(force=True)
    return payload


class Journey:
    """What all walks of a run share: the count of transitions, the path, the histories."""

    def __init__(self, ctx: FlowContext, graph: Graph, start: Position) -> None:
        self.ctx = ctx
        self.graph = graph
        self.taken = start.taken
        self.fresh = 0
        self.path: deque[str] = deque(start.path, MAX_PATH)
        self.histories: dict[str, Any] = dict(start.histories)
        self.root: Walk | None = None
        self._execution = ctx._execution  # noqa: SLF001 - a graph's body is a part of the engine
        self._shown = self._execution.now
        self.metadata: Any = json.loads(self._execution.metadata or "{}")

    @property
    def now(self) -> float:
        """The run's logical time, in seconds since the epoch."""
        return self._execution.now

    def count(self, path: str) -> None:
        """Take note of a transition."""
        self.taken += 1
        self.fresh += 1
        if self.taken > self.graph.max_transitions:
            raise GraphLimitError(self.graph.name, self.graph.max_transitions)
        self.path.append(path)

    def position(self) -> dict[str, Any]:
        """Return what is published of the run."""
        assert self.root is not None
        return {
            **self.root.snapshot(),
            "taken": self.taken,
            "path": list(self.path),
            "histories": self.histories,
            "deferred": self.root.deferred,
        }

    def show(self, *, force: bool = False) -> float:
        """Show the position, now and then; return the run's time."""
        now = self._execution.now
        if (now - self._shown < _SHOW_EVERY and not force) or self.ctx.replaying:
            return now
        self._shown = now
        try:
            text = _compact(self.position())
        except (TypeError, ValueError, RecursionError):
            return now  # what JSON can't carry can't be shown, which is no reason to fail
        self._execution.host.show(self._new_value(POSITION, text))
        return now

    async def rest(self) -> None:
        """Publish the position durably: the run is about to wait."""
        await self.publish(POSITION, self.position())

    async def publish(self, key: str, value: Any) -> None:
        """Publish a value under a name of the engine's."""
        await self.ctx._effect(key, self._value(key, value))  # noqa: SLF001 - see above

    def _value(self, key: str, value: Any) -> NewValue:
        limit = self._execution.host.max_payload * 4
        return self._new_value(key, ANY.encode(value, f"the value {key!r}", limit))

    def _new_value(self, key: str, text: str) -> NewValue:
        return NewValue(self.ctx.run_id, key, text, self._execution.claim)


class Walk:
    """The walk of one graph: the run's, or a region's.

    Args:
        graph: the graph.
        journey: what it shares with the run's other walks.
        prefix: what stands before the names of its states in paths.
    """

    def __init__(self, graph: Graph, journey: Journey, prefix: str) -> None:
        self.graph = graph
        self.journey = journey
        self.ctx = journey.ctx
        self.prefix = prefix
        self.exits: Exits = graph.compiled
        self.state = graph.initial
        self.payload: Any = None
        self.within: State | None = None  # from its entry to the beginning of its exit
        self.inside: dict[str, Walk] = {}
        self.left: list[Walk] = []
        self.deferred: list[tuple[str, Any]] = []

    def snapshot(self) -> dict[str, Any]:
        """Return where the walk is, as plain JSON data."""
        found = {"state": self.state, "payload": self._plain(self.payload)}
        if self.inside:
            found["regions"] = {name: walk.snapshot() for name, walk in self.inside.items()}
        return found

    def _plain(self, payload: Any) -> Any:
        shape = self.exits.shape
        if shape is None:
            return payload
        return json.loads(shape.encode(payload, "the payload", 1 << 30))

    def _typed(self, payload: Any) -> Any:
        shape = self.exits.shape
        return payload if shape is None else shape.validate(payload, "the payload")

    async def run(self, start: Position, regions: dict[str, Any] | None = None) -> Any:
        """Walk from a position to a terminal state; return the payload."""
        name, payload = start.state, start.payload
        self.deferred = [(name, sent) for name, sent in start.deferred]
        if list(self.journey.path)[-1:] != [self.prefix + name]:
            self.journey.path.append(self.prefix + name)
        while True:
            state, regions = self._resolve(name, regions)
            self.state = state.name
            self.payload = payload if self.exits.shape is None else self._typed(payload)
            entered, self.within = self.journey.show(), state
            try:
                if name in self.exits.plain:
                    # The same as below, for the many states that have nothing but a function.
                    self.payload = await state.function(self.ctx, self.payload)  # type: ignore[misc]
                else:
                    await self._enter(state)
                if state.terminal:
                    self.within = None
                    await _act(state.exit, self.ctx, self.payload)
                    return self._plain(self.payload)
                transition = self._at_once(state) or await self._leave(state, entered, regions)
            except Exception as error:
                if state.on_error is None or isinstance(error, GraphLimitError):
                    raise
                transition = Transition(source=state.name, target=state.on_error)
                self.payload = with_error(self._plain(self.payload), state.name, error)
            regions = self.within = None
            if state.exit is not None:
                await state.exit(self.ctx, self.payload)
            if transition.action is not None:
                await transition.action(self.ctx, self.payload)
            name, payload = transition.target, self.payload
            self.journey.count(self.prefix + name)
            self._continue(name)

    def _resolve(
        self, name: str, regions: dict[str, Any] | None
    ) -> tuple[State, dict[str, Any] | None]:
        state = self.graph.states[name]
        if state.history_of is None:
            return state, regions
        past = self.journey.histories.get(self.prefix + state.history_of)
        return self.graph.states[state.history_of], past

    def _continue(self, name: str) -> None:
        journey = self.journey
        if journey.root is self and journey.fresh >= self.graph.continue_after:
            self.ctx.continue_as_new(
                Position(
                    name, self._plain(self.payload), journey.taken, list(journey.path),
                    journey.histories, self.deferred,
                )
            )  # fmt: skip

    # Entry

    async def _enter(self, state: State) -> None:
        if state.entry is not None:
            await state.entry(self.ctx, self.payload)
        if state.function is None:
            return
        if state.timeout is None and state.retries is NO_RETRY:
            self.payload = self._typed(await state.function(self.ctx, self.payload))
            return
        attempt = 1
        while True:
            try:
                self.payload = self._typed(await self._call(state))
                return
            except Exception as error:
                if not state.retries.allows(attempt, error):
                    raise
            await self.ctx.sleep(state.retries.delay(attempt, self.ctx.random()))
            attempt += 1

    async def _call(self, state: State) -> Any:
        assert state.function is not None
        if state.timeout is None:
            return await state.function(self.ctx, self.payload)
        try:
            async with asyncio.timeout(state.timeout) as limit:
                return await state.function(self.ctx, self.payload)
        except TimeoutError as error:
            if limit.expired():
                raise StateTimeoutError(state.name, state.timeout) from error
            raise

    # Exit

    def _at_once(self, state: State) -> Transition | None:
        """Return the way out of an automatic state, if there is one now."""
        if state.manual or state.composite:
            return None
        return self._choose(self.exits.automatic[state.name], self.payload, None)

    async def _leave(
        self, state: State, entered: float, regions: dict[str, Any] | None
    ) -> Transition:
        if state.composite:
            return await self._leave_composite(state, entered, regions)
        if not state.manual and not self.exits.timed[state.name]:
            raise NoTransitionError(state.name)
        return await self._wait(state, self._timers(state, entered))

    def _timers(self, state: State, entered: float) -> list[Timer]:
        timers: list[Timer] = [(entered + (t.after or 0), t) for t in self.exits.timed[state.name]]
        if state.timeout is not None:
            timers.append((entered + state.timeout, None))
        return sorted(timers, key=lambda timer: timer[0])

    async def _wait(self, state: State, timers: list[Timer]) -> Transition:
        """Wait for a signal that a transition takes, or for the time of one."""
        signals = self.exits.signals[state.name]
        policy = state.unhandled or self.graph.unhandled
        heard = self.exits.events if policy == "reject" else list(signals)
        waiting, self.deferred = deque(self.deferred), []
        while True:
            if waiting:
                name, sent = waiting.popleft()
            elif (found := await self._next(heard, timers)) is None:
                _, timed = timers.pop(0)
                if timed is None:
                    raise StateTimeoutError(state.name, state.timeout or 0)
                if self._choose([timed], self.payload, None) is not None:
                    self.deferred += waiting
                    return timed
                if not timers and not heard:
                    raise NoTransitionError(state.name)
                continue
            else:
                name, sent = found
            if (chosen := await self._take(state, name, sent, signals, policy)) is not None:
                self.deferred += waiting
                return chosen

    async def _next(self, names: list[str], timers: list[Timer]) -> tuple[str, Any] | None:
        """Wait for a signal; None when the first timer's time has come."""
        left = timers[0][0] - self.journey.now if timers else None
        if left is not None and left <= 0:
            return None
        await self.journey.rest()
        if not names:
            await self.ctx.sleep(left or 0)
            return None
        try:
            return await self.ctx.wait_any_signal(names, timeout=left)
        except TimeoutError:
            return None

    async def _take(
        self,
        state: State,
        name: str,
        sent: Any,
        signals: dict[str, list[Transition]],
        policy: str,
    ) -> Transition | None:
        """Offer a signal to the state; return the transition that takes it and leaves."""
        receipt, content = opened(sent)
        outcome, chosen = "rejected", None
        for transition in signals.get(name, ()):
            try:
                merged = self._merged(transition, content)
            except PayloadError as error:
                outcome = f"rejected: {error}"
                continue
            if self._holds(transition, merged, content, strict=False):
                self.payload, chosen, outcome = merged, transition, "taken"
                break
        if chosen is None and policy == "defer":
            self.deferred.append((name, sent))
            outcome = "deferred"
        if chosen is None:
            self.ctx.logger.warning("signal %r was %s in state %r", name, outcome, state.name)
        if receipt is not None:
            answer = {"outcome": outcome, "state": self.prefix + state.name}
            await self.journey.publish(f"{RECEIPT}:{receipt}", answer)
        if chosen is not None and chosen.internal:
            await _act(chosen.action, self.ctx, self.payload)
            return None
        return chosen

    def _merged(self, transition: Transition, sent: Any) -> Any:
        how = transition.merge or self.graph.merge
        if how is not None:
            return self._typed(how(self.payload, sent))
        if self.exits.shape is None:
            return merge(self.payload, sent)
        return self._typed(merge(self._plain(self.payload), sent))

    def _choose(self, among: Iterable[Transition], payload: Any, sent: Any) -> Transition | None:
        for transition in among:
            if transition.when is None or self._holds(transition, payload, sent, strict=True):
                return transition
        return None

    def _holds(self, transition: Transition, payload: Any, sent: Any, *, strict: bool) -> bool:
        """Ask a guard. A signal that a condition can't be evaluated for is one that it refuses."""
        guard = transition.when
        if guard is None:
            return True
        if not isinstance(guard, Condition):
            return bool(guard(payload))
        plain = payload if self.exits.shape is None else self._plain(payload)
        try:
            return guard.holds(plain, sent, self.journey.metadata)
        except ConditionError:
            if strict:
                raise
            return False

    # Regions

    async def _leave_composite(
        self, state: State, entered: float, past: dict[str, Any] | None
    ) -> Transition:
        regions = {
            name: asyncio.ensure_future(self._region(state, name, graph, (past or {}).get(name)))
            for name, graph in state.regions.items()
        }
        racers: dict[str, Any] = {"": asyncio.ensure_future(self._join(state, regions))}
        if self.exits.signals[state.name] or self.exits.timed[state.name] or state.timeout:
            racers["!"] = asyncio.ensure_future(self._wait(state, self._timers(state, entered)))
        try:
            winner, result = await self._race(state, racers, regions)
        except Exception:
            await self._exit_inside()
            raise
        await self._exit_inside()
        if winner == "!":
            return result  # type: ignore[no-any-return]
        self.journey.histories.pop(self.prefix + state.name, None)
        self.payload = self._typed(result)
        chosen = self._choose(self.exits.automatic[state.name], self.payload, None)
        if chosen is None:
            raise NoTransitionError(state.name)
        return chosen

    async def _race(
        self, state: State, racers: dict[str, Any], regions: dict[str, Any]
    ) -> tuple[str, Any]:
        try:
            winner, result = await concurrency.select(racers)
            if winner == "!":
                self._remember(state)
            return winner, result
        finally:
            self.left = list(self.innermost())
            await concurrency.release([*racers.values(), *regions.values()])
            self.inside = {}

    def innermost(self) -> Iterator["Walk"]:
        """Return the walks inside of this one in the order in which their states are left: those
        inside of others first, the last region first.
        """
        for walk in reversed(self.inside.values()):
            yield from walk.innermost()
            yield walk

    async def _exit_inside(self) -> None:
        """Run the exit actions of the states in which the walks inside were cancelled."""
        left, self.left = self.left, []
        for walk in left:
            state, walk.within = walk.within, None
            if state is not None:
                await _act(state.exit, walk.ctx, walk.payload)

    async def _region(self, state: State, name: str, graph: Graph, past: Any) -> Any:
        start = Position(graph.initial, copy.deepcopy(self._plain(self.payload)))
        inner = None
        if past is not None:
            start, inner = Position(past["state"], past["payload"]), past.get("regions")
        prefix = f"{self.prefix}{state.name}/" + (f"{name}/" if name else "")
        walk = Walk(graph, self.journey, prefix)
        self.inside[name] = walk
        return await walk.run(start, inner)

    async def _join(self, state: State, regions: dict[str, Any]) -> Any:
        pending = dict(regions)
        outputs: dict[str, Any] = {}
        while len(outputs) < (state.join or len(regions)):
            name, output = await concurrency.select(pending)
            outputs[name] = output
            del pending[name]
        if "" in outputs:
            return outputs[""]
        if state.merge is not None:
            return state.merge(self.payload, outputs)
        ordered = {name: outputs[name] for name in regions if name in outputs}
        return merge(self._plain(self.payload), ordered)

    def _remember(self, state: State) -> None:
        self.journey.histories[self.prefix + state.name] = {
            name: walk.snapshot() for name, walk in self.inside.items()
        }


async def _act(action: Callable[..., Any] | None, ctx: FlowContext, payload: Any) -> None:
    if action is not None:
        await action(ctx, payload)
