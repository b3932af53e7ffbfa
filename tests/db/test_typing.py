# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the type checker says to users of `db`."""

import subprocess
import sys
from pathlib import Path

GOOD = """
from uuid import UUID
from sqlalchemy.orm import Mapped
from sqlalchemy.ext.asyncio import AsyncSession
from forktex_core.db import (
    BaseDBModel, CursorPage, Health, OrgScopedMixin, Page, Repository, SoftDeleteMixin,
    VersionedMixin, acting_as, get_session, healthcheck, init_engine, org_scope, retry_transaction,
)

class User(OrgScopedMixin, SoftDeleteMixin, VersionedMixin, BaseDBModel):
    __tablename__ = "user"
    name: Mapped[str]

class Users(Repository[User]):
    async def named(self, name: str) -> list[User]:
        return await self.list(name=name)

async def count(session: AsyncSession) -> int:
    return await Repository[User](session).count()

async def main() -> None:
    init_engine("postgresql://localhost/x", pool_size=5, read_replica_url=None)
    with org_scope("a"), acting_as("b"):
        async with get_session(isolation_level="SERIALIZABLE") as session:
            users = Users(session)
            a: User = await users.get(1)
            b: User | None = await Repository[User](session).get_or_none(1)
            c: list[User] = await users.named("x")
            d: Page[User] = await users.page(page=1, sort="name", age__gte=18)
            e: CursorPage[User] = await users.cursor_page(User.name == "x", sort=("-name", "id"))
            f: list[UUID] = [each.id for each in d] + [each.org_id for each in e]
            g: str = (await users.create(name="x")).name
            h: int = (await users.upsert(on="id", id=1)).version
            i: bool = await users.exists() and await users.count() > 0
    k: int = await retry_transaction(count, attempts=2)
    m: Health = await healthcheck()
    n: float | None = m.latency
"""
BAD = {
    "Repository[int]": "type-var",
    "Users('x')": "arg-type",
    "x: str = await users.get(1)": "assignment",
    "(await users.get_or_none(1)).name": "union-attr",
    "await users.list('name')": "arg-type",
    "await users.page(page='2')": "arg-type",
    "await users.upsert(id=1)": "call-arg",
    "(await users.create()).nmae": "attr-defined",
    "get_session(isolation_level='AUTOCOMMIT')": "arg-type",
    "init_engine('x', pool_sise=5)": "call-arg",
    "y: str = await retry_transaction(count)": "arg-type",
    "await retry_transaction(print)": "arg-type",
    "async with org_scope(1): pass": "attr-defined",
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
    found = check(tmp_path, f"{GOOD}\nasync def wrong(users: Users) -> None:\n{wrong}\n")
    first = GOOD.count("\n") + 3
    lines = found.splitlines()
    for number, (line, code) in enumerate(BAD.items(), first):
        assert any(f":{number}:" in each and code in each for each in lines), (line, found)
    assert all(int(each.split(":")[1]) >= first for each in lines if ": error:" in each), found
