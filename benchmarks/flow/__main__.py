# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``python -m benchmarks.flow [NAME ...] [--slow]``: one file per target; the quick ones, unless
told otherwise.
"""

import argparse
import subprocess
import sys

QUICK = ("many", "chain", "short", "latency", "budget", "importing")
SLOW = ("takeover", "parked", "history")


def main() -> int:
    """Run each in a process of its own; return the number that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*QUICK, *SLOW, []], metavar="NAME")
    parser.add_argument("--slow", action="store_true", help="also what takes minutes")
    chosen = parser.parse_args()
    names = chosen.names or (QUICK + SLOW if chosen.slow else QUICK)
    failed = 0
    for name in names:
        print(f"-- flow {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.flow.{name}"]
        failed += subprocess.call([*command, *(["--slow"] if chosen.slow else [])]) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
