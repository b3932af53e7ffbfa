# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the type checker says to users who start runs."""

import subprocess
import sys
from pathlib import Path

GOOD = """
from uuid import UUID
from forktex_core.flow import (
    Action, Change, Column, Flow, FlowContext, FlowExtension, RunView, TenantExtension,
)

flow = Flow("postgresql://")

@flow.workflow(name="typed")
async def typed(ctx: FlowContext, number: int) -> str: return str(number)

@flow.workflow()
async def bare(ctx: FlowContext) -> bytes: return b""

@flow.workflow(version=2)
async def loose(ctx: FlowContext, number: float | None = None) -> None: ...

async def main() -> None:
    a: UUID = await flow.start(typed, 1, queue="q", key="k", timeout=5)
    b: UUID = await flow.start(bare)
    c: list[UUID] = await flow.start_many(typed, [1, 2], priority=1)
    d: str = await flow.run(typed, 1, timeout=5)
    e: bytes = await flow.run(bare)
    f: UUID = await flow.start("typed", {"any": "thing"}, idempotency_key="x")
    await flow.start(loose, 1.5)
    await flow.start(loose, None)
    await flow.schedule("s", typed, cron="* * * * *", overlap="skip")
    g: str = await flow.as_("ada").run(typed, 1, timeout=5)

class Both:
    def columns(self) -> list[Column]: return [Column("team", str)]
    async def authorize(self, action: Action, principal: str, run: RunView | None) -> bool:
        return True

class Part(FlowExtension):
    def after_commit(self, change: Change) -> None: ...

class Unlike:
    def visible(self, principal: str, more: int) -> str: return "true"

guarded = Flow("postgresql://", extensions=[Both(), Part(), TenantExtension()])
"""
BAD = {
    "await flow.start(typed, 'x')": "Cannot infer",
    "await flow.start(typed)": "arg-type",
    "await flow.start(bare, 1)": "Cannot infer",
    "await flow.start(typed, 1, priority='high')": "call-overload",
    "await flow.start(typed, 1, prioritty=1)": "call-overload",
    "await flow.start_many(typed, ['x'])": "Cannot infer",
    "x: int = await flow.run(typed, 1)": "arg-type",
    "await flow.schedule('s', typed, overlap='perhaps')": "arg-type",
    "await flow.rewind(UUID(int=1))": "call-arg",
    "await flow.as_(1).start(typed, 'x')": "Cannot infer",
    "flow.as_(1).register_graph": "attr-defined",
    "Flow('', extensions=[object()])": "list-item",
    "Flow('', extensions=[Unlike()])": "list-item",
}


def check(folder: Path, source: str) -> str:
    """What strict mypy prints about a user's module."""
    path = folder / "user.py"
    path.write_text(source)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_types(tmp_path: Path) -> None:
    """Right use passes strict checking; each misuse is an error of its kind, on its line."""
    wrong = "\n".join(f"    {line}" for line in BAD)
    found = check(tmp_path, f"{GOOD}\nasync def wrong() -> None:\n{wrong}\n")
    first = GOOD.count("\n") + 3
    lines = found.splitlines()
    for number, (line, code) in enumerate(BAD.items(), first):
        assert any(f":{number}:" in each and code in each for each in lines), (line, found)
    assert all(int(each.split(":")[1]) >= first for each in lines if ": error:" in each), found
