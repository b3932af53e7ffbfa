# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`queue` against arq, SAQ, taskiq and streaQ, and against a bare consumer group.

Each engine is tuned after its own documentation: what was set and why stands at the top of its
program in ``queue_peers``. All run on asyncio's own loop, each in an environment of its own (below
``.tools/queue-peers``, made with pip when it is missing), on one server, one worker process with
100 jobs at once; rounds alternate between the engines. Bytes per job: the server's memory with the
jobs waiting less that of the same server before, both read when no client is connected but the one
that reads.

    python benchmarks/queue.py [--rounds 1] [--jobs 10000] [--redis URL] [--save FILE]

``--save`` adds the rounds to a file and prints the medians over all that it holds.
``--redelivery N`` measures instead how long after a SIGKILL a job runs again, N times.
"""

# ruff: noqa: E402
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# This file is called like a module of the standard library, which must be found first.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]

import argparse
import asyncio
import json
import statistics
import subprocess
import venv
from typing import Any

import redis

from forktex_core.embedded import EmbeddedRedis

PEERS = {
    "arq": ["arq==0.28.0", "msgpack"],
    "saq": ["saq[redis]==0.26.4", "hiredis", "orjson", "typing_extensions"],
    "taskiq": ["taskiq[orjson]==0.13.0", "taskiq-redis==1.2.4", "hiredis"],
    "streaq": ["streaq==7.2.0", "orjson"],
}
ENGINES = ["forktex", *PEERS, "floor"]


def python_of(engine: str) -> str:
    """The interpreter that has the engine, made when it is missing."""
    if engine not in PEERS:
        return sys.executable
    folder = HERE.parent / ".tools" / "queue-peers" / engine
    program = folder / "bin" / "python"
    if not program.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([program, "-m", "pip", "install", "-q", *PEERS[engine]], check=True)
    return str(program)


def start(engine: str, *words: str) -> dict[str, Any]:
    """What an engine's program says at its end."""
    program = HERE / "queue_peers" / f"{engine}_bench.py"
    command = [python_of(engine), str(program), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    if done.returncode:
        raise SystemExit(f"{engine}: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def memory(url: str) -> int:
    """The server's memory, seen by the only client."""
    with redis.Redis.from_url(url) as server:
        while server.info("clients")["connected_clients"] > 1:
            pass
        return int(server.info("memory")["used_memory"])


def flush(url: str) -> None:
    """Empty the server."""
    with redis.Redis.from_url(url) as server:
        server.flushall()


def measure(engine: str, url: str, jobs: int) -> dict[str, Any]:
    """One round of one engine."""
    flush(url)
    start(engine, url, "1", "fill")  # scripts and groups are there, and a first job
    before = memory(url)
    start(engine, url, str(jobs), "fill")
    size = (memory(url) - before) / jobs
    flush(url)
    return start(engine, url, str(jobs), "run") | {"bytes": size}


def summary(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the rounds; the pickups of all rounds together."""
    picked = sorted(pickup for one in rounds for pickup in one["pickups"])
    return {
        "enqueue/s": statistics.median(one["enqueue/s"] for one in rounds),
        "jobs/s": statistics.median(one["jobs/s"] for one in rounds),
        "p50 ms": statistics.median(picked),
        "p99 ms": picked[int(len(picked) * 0.99)],
        "bytes": statistics.median(one["bytes"] for one in rounds),
    }


def report(rounds: list[dict[str, Any]]) -> None:
    """The table, and the ratios that count."""
    table = {engine: summary([one[engine] for one in rounds]) for engine in ENGINES}
    print(f"{len(rounds)} rounds")
    for engine, figures in table.items():
        print(engine.ljust(8), "  ".join(f"{name} {value:,.2f}" for name, value in figures.items()))
    ours, floor = table["forktex"], table["floor"]
    peers = [table[peer] for peer in PEERS]
    print(f"jobs/s: {ours['jobs/s'] / max(p['jobs/s'] for p in peers):.1f}x the fastest peer,")
    print(f"        {ours['jobs/s'] / floor['jobs/s']:.2f} of the bare consumer group")
    for figure in ("p50 ms", "p99 ms", "bytes"):
        best = min(p[figure] for p in peers)
        print(f"{figure}: {ours[figure] / best:.2f} of the best peer")


async def compare(options: argparse.Namespace) -> None:
    """Run the rounds and print the table."""
    async with EmbeddedRedis() as server:
        url = options.redis or server.url
        rounds = [
            {engine: measure(engine, url, options.jobs) for engine in ENGINES}
            for _ in range(options.rounds)
        ]
    if options.save:
        before = json.loads(options.save.read_text()) if options.save.exists() else []
        rounds = before + rounds
        options.save.write_text(json.dumps(rounds))
    report(rounds)


def main() -> None:
    """Compare, or measure redelivery."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--redis")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--redelivery", type=int)
    options = parser.parse_args()
    if options.redelivery:
        program = HERE / "queue_peers" / "redelivery.py"
        subprocess.run([sys.executable, str(program), str(options.redelivery)], check=True)
    else:
        asyncio.run(compare(options))


if __name__ == "__main__":
    main()
