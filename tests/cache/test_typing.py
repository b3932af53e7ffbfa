# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the type checker says to users of the cache."""

import subprocess
import sys
from pathlib import Path

GOOD = """
from dataclasses import dataclass
from forktex_core.cache import CachedFunction, cached, get_json, mget, rate_limit

@cached(ttl=300)
async def get(user_id: str, limit: int = 1) -> int: return 1

@cached()
def plain(x: int) -> str: return ""

class Repo:
    def __cache_key__(self) -> str: return "r"
    @cached()
    async def find(self, x: int) -> bytes: return b""

async def main() -> None:
    a: int = await get("u", limit=2)
    b: str = await plain(1)
    c: bytes = await Repo().find(1)
    d: bytes = await Repo().find.refresh(x=1)
    e: int | None = await get_json("k", int)
    f: list[str | None] = await mget(["k"], str)
    ok, after = await rate_limit("x", key="k", limit=1, window_seconds=1)
    g: float = after
    k: str = get.key("u")
"""
BAD = {
    "await get(1)": "arg-type",
    "await get()": "call-arg",
    "await get.invalidate(nobody=1)": "call-arg",
    "await Repo().find('x')": "arg-type",
    "x: str = await get('u')": "assignment",
    "y: str = await get_json('k', int)": "assignment",
    "await rate_limit('x', key='k', limit='5', window_seconds=1)": "call-overload",
}


def check(folder: Path, source: str) -> str:
    """What strict mypy prints about a user's module."""
    path = folder / "user.py"
    path.write_text(source)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout


def test_types(tmp_path: Path) -> None:
    """Right use passes strict checking; each misuse is an error of its kind, on its line."""
    wrong = "\n".join(f"    {line}" for line in BAD)
    found = check(tmp_path, f"{GOOD}\nasync def wrong() -> None:\n{wrong}\n")
    first = GOOD.count("\n") + 3
    lines = found.splitlines()
    for number, (line, code) in enumerate(BAD.items(), first):
        assert any(f":{number}:" in each and code in each for each in lines), (line, found)
    assert all(int(each.split(":")[1]) >= first for each in lines if ": error:" in each), found
