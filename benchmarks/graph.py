# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What graphs cost: ``python -m benchmarks graph``.

Twenty automatic states with a step each, against a workflow of the same twenty steps: whole runs a
second, in turns, on one worker. And validate() of a thousand states.
"""

import asyncio
import time
from statistics import median
from typing import Any
from uuid import uuid4

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow, FlowContext, Graph, Library, StepContext

STATES = 20
RUNS = 200
ROUNDS = 9


def build(flow: Flow) -> None:
    """Register the graph and the workflow."""

    @flow.step
    async def add(ctx: StepContext, number: int) -> int:
        return number + 1

    @flow.workflow(name="plain")
    async def plain(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
        for _ in range(STATES):
            payload = {**payload, "n": await add(ctx, payload["n"])}
        return payload

    async def state(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
        return {**payload, "n": await add(ctx, payload["n"])}

    g = Graph("graph", initial="s0")
    for number in range(STATES):
        g.add_state(f"s{number}", state, terminal=number == STATES - 1)
        if number:
            g.transition(f"s{number - 1}", f"s{number}", when="payload.n >= 0")
    flow.register_graph(g)


async def measure(flow: Flow, name: str) -> float:
    """Return the seconds that all runs of a workflow take."""
    began = time.perf_counter()
    ids = await flow.start_many(name, [{"n": 0}] * RUNS)
    await asyncio.gather(*(flow.result(i) for i in ids))
    return time.perf_counter() - began


def thousand() -> Graph:
    """Return a right graph of a thousand states and two thousand transitions."""
    g = Graph("thousand", initial="s0")
    for n in range(1000):
        g.add_state(f"s{n}", manual=n < 999, terminal=n == 999)
        if n < 999:
            g.transition(f"s{n}", f"s{n + 1}", on="next", when=f"payload.n > {n}")
            g.transition(f"s{n}", f"s{n * 7 % 1000}", on="jump")
    return g


def validation() -> None:
    """Print how long a thousand states take to be checked."""
    g = thousand()
    text = g.to_json()
    times, read = [], []
    for _ in range(10):
        began = time.perf_counter()
        assert not g.validate()
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
        Graph.from_json(text)
        read.append(time.perf_counter() - began)
    print(
        f"validate() of 1,000 states: {median(times) * 1e3:.1f} ms (worst {max(times) * 1e3:.1f})"
    )
    print(f"from_json() of the same, {len(text):,} characters: {median(read) * 1e3:.0f} ms")


async def pages(flow: Flow) -> None:
    """Print how long a page of ten thousand graphs of fifty states takes to be listed."""
    flow.serve_graphs(Library())
    g = Graph("g0", initial="s0")
    for n in range(50):
        g.add_state(f"s{n}", manual=n < 49, terminal=n == 49)
        if n < 49:
            g.transition(f"s{n}", f"s{n + 1}", on="next")
    text = g.to_json()
    for begin in range(0, 10_000, 50):
        names = [f"g{n:05}" for n in range(begin, begin + 50)]
        store = flow._open.graphs  # noqa: SLF001 - checking each document is not what is measured
        await asyncio.gather(*(store.save_graph("acme", name, text, None) for name in names))
    times = []
    for n in range(0, 10_000, 500):
        began = time.perf_counter()
        assert len(await flow.definitions.list("acme", after=f"g{n:05}", limit=100)) == 100
        times.append(time.perf_counter() - began)
    compiled = flow._registry.stored.compiled  # noqa: SLF001 - what is measured
    print(f"a page of 100 of 10,000 graphs: {median(times) * 1e3:.1f} ms; compiled: {compiled}")


async def main(url: str) -> None:
    """Measure both in turns and print medians."""
    validation()
    schema = f"bench_{uuid4().hex[:8]}"
    async with Flow(url, schema=schema) as flow:
        build(flow)
        await pages(flow)
        worker = asyncio.create_task(flow.run_worker())
        await measure(flow, "plain")
        await measure(flow, "graph")
        found: dict[str, list[float]] = {"plain": [], "graph": []}
        for number in range(ROUNDS):
            for name in ("plain", "graph") if number % 2 else ("graph", "plain"):
                found[name].append(await measure(flow, name))
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    plain, graph = (median(found[n]) for n in ("plain", "graph"))
    print(f"{RUNS} runs of {STATES} steps: workflow {plain:.2f} s, graph {graph:.2f} s")
    print(f"a graph costs {graph / plain:.2f} times the workflow")


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(main(server.dsn))
