# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What step bodies leave behind: who began which step when.

Independent of the engine's own records, so that the two can be compared: the journal says what was
recorded, this says what was executed.
"""

import json
import os
import time
from pathlib import Path

from pydantic import BaseModel


class Testimony(BaseModel):
    """One execution of a step's body."""

    step: str
    pid: int
    at: float


def testify(site: Path, step: str) -> None:
    """Note that this process begins a step (one short append: whole, whoever else writes)."""
    line = json.dumps({"step": step, "pid": os.getpid(), "at": time.time()}) + "\n"
    with (site / "witness.jsonl").open("a") as file:
        file.write(line)


def testimonies(site: Path) -> list[Testimony]:
    """All executions so far, in order."""
    file = site / "witness.jsonl"
    if not file.exists():
        return []
    return [Testimony.model_validate_json(line) for line in file.read_text().splitlines()]
