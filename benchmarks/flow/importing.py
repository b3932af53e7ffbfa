# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The time that ``import forktex_core.flow`` takes, beside asyncpg's own; both from bytecode, as
anywhere but in the first process after an installation.
"""

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.flow.setting import verdict

ROUNDS = 15
CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str, cache: str) -> float:
    """Return the seconds that an import takes in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", CODE.format(module)]
    return float(subprocess.check_output(command, env=environment))


def main() -> None:
    """Take turns, print."""
    driver, ours = [], []
    with tempfile.TemporaryDirectory() as cache:
        seconds("forktex_core.flow", cache)
        for _ in range(ROUNDS):
            driver.append(seconds("asyncpg", cache))
            ours.append(seconds("forktex_core.flow", cache))
    a, b = statistics.median(driver), statistics.median(ours)
    print(f"  asyncpg {a * 1e3:.0f} ms, forktex_core.flow {b * 1e3:.0f} ms")
    verdict("flow / asyncpg", b / a, "at most 2", met=b / a <= 2)


if __name__ == "__main__":
    main()
