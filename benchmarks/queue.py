# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`queue` against arq, SAQ, taskiq and streaQ, and against a bare consumer group.

Each engine runs in an environment of its own (below ``.tools/queue-peers``, made with pip when
it is missing), on one
server, one worker process with 100 jobs at once, alternating rounds; medians are printed with
their ratios to ours.

    python benchmarks/queue.py [--rounds 3] [--jobs 10000] [--redis URL]
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

from forktex_core.embedded import EmbeddedRedis

PEERS = {
    "arq": ["arq"],
    "saq": ["saq[redis]", "hiredis", "typing_extensions"],
    "taskiq": ["taskiq", "taskiq-redis", "hiredis"],
    "streaq": ["streaq", "redis"],
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


def measure(engine: str, url: str, jobs: int) -> dict[str, float]:
    """One round of one engine."""
    program = HERE / "queue_peers" / f"{engine}_bench.py"
    done = subprocess.run(
        [python_of(engine), str(program), url, str(jobs)],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    if done.returncode:
        raise SystemExit(f"{engine}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


async def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--redis")
    options = parser.parse_args()
    async with EmbeddedRedis() as server:
        url = options.redis or server.url
        rounds = [
            {engine: measure(engine, url, options.jobs) for engine in ENGINES}
            for _ in range(options.rounds)
        ]
    table = {
        engine: {
            figure: statistics.median(one[engine][figure] for one in rounds)
            for figure in rounds[0][engine]
        }
        for engine in ENGINES
    }
    for engine, figures in table.items():
        print(engine.ljust(8), "  ".join(f"{name} {value:,.2f}" for name, value in figures.items()))
    ours, floor = table["forktex"], table["floor"]
    peers = [table[peer] for peer in PEERS]
    print(f"jobs/s: {ours['jobs/s'] / max(p['jobs/s'] for p in peers):.1f}x the fastest peer,")
    print(f"        {ours['jobs/s'] / floor['jobs/s']:.2f} of the bare consumer group")
    print(
        f"bytes per job: {ours['bytes'] / min(p['bytes'] for p in peers):.2f} of the leanest peer"
    )
    for figure in ("p50 ms", "p99 ms"):
        best = min(p[figure] for p in peers)
        print(f"pickup {figure}: {ours[figure] / best:.2f} of the fastest peer")


if __name__ == "__main__":
    asyncio.run(main())
