# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The time that ``import forktex_core.flow`` takes, beside asyncpg's own."""

import statistics
import subprocess
import sys

from benchmarks.flow.setting import verdict

ROUNDS = 7
CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    """Return the seconds that an import takes in a fresh interpreter."""
    return float(subprocess.check_output([sys.executable, "-c", CODE.format(module)]))


def main() -> None:
    """Take turns, print."""
    driver, ours = [], []
    for _ in range(ROUNDS):
        driver.append(seconds("asyncpg"))
        ours.append(seconds("forktex_core.flow"))
    a, b = statistics.median(driver), statistics.median(ours)
    print(f"  asyncpg {a * 1e3:.0f} ms, forktex_core.flow {b * 1e3:.0f} ms")
    verdict("flow / asyncpg", b / a, "at most 2", met=b / a <= 2)


if __name__ == "__main__":
    main()
