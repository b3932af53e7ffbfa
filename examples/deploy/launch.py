# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What starts an application: ``launch.py FOLDER MAIN`` detaches a process and lets it become MAIN.

The process first leaves a line with its id in the folder, so that whoever tidies up finds every
process that was ever started, and whoever counts the starts counts them all. It is nobody's child:
it outlives the worker that started it, and no worker has to wait for it.
"""

import os
import sys
from pathlib import Path

folder, main = map(Path, sys.argv[1:])
if os.fork():
    os._exit(0)
with (folder / "launches").open("a") as launches:
    launches.write(f"{os.getpid()}\n")
os.execv(sys.executable, [sys.executable, str(main)])
