# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``python -m benchmarks [NAME ...]``: the quick benchmarks; ``--peers`` runs all, each beside its
peers. A package has options of its own: ``python -m benchmarks.flow --slow``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

QUICK = ["flow"]


def main() -> int:
    """Run each benchmark in a process of its own; return the number that failed."""
    folder = Path(__file__).parent
    there = sorted(
        {p.stem for p in folder.glob("[a-z]*.py")}
        | {p.parent.name for p in folder.glob("*/__main__.py")}
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(there)}")
    parser.add_argument(
        "--peers", action="store_true", help="all of them, each as it stands beside its peers"
    )
    chosen = parser.parse_args()
    if unknown := [n for n in chosen.names if n not in there]:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(there)}")
    names = chosen.names or (there if chosen.peers else QUICK)
    failed = 0
    for name in names:
        print(f"== {name}", flush=True)
        failed += subprocess.call([sys.executable, "-m", f"benchmarks.{name}"]) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
