# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Credentials of organisations, encrypted at rest in a `db` model, and their key's rotation.

python examples/vault_credentials.py postgresql+asyncpg://…
"""

import asyncio
import sys

from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from forktex_core.db import BaseDBModel, close_engine, get_engine, get_session, init_engine
from forktex_core.vault import EncryptedJSON, Vault, rotate_blobs

OLD_KEY, NEW_KEY = Vault.generate_key(), Vault.generate_key()
OLD, NEW = Vault.from_key(OLD_KEY), Vault.from_key(NEW_KEY)


class OrgProviderCredential(BaseDBModel):
    """What an organisation gave us to act in its name."""

    __tablename__ = "org_provider_credential"
    payload: Mapped[dict] = mapped_column(EncryptedJSON(Vault.from_keys([OLD_KEY, NEW_KEY])))


async def main(url: str) -> None:
    """Store a credential, rotate the key, read the credential."""
    init_engine(url)
    async with get_engine().begin() as connection:
        await connection.run_sync(BaseDBModel.metadata.create_all)
    async with get_session() as session:
        session.add(OrgProviderCredential(payload={"hetzner_token": "…", "ssh_key_id": 12345}))
    async with get_session() as session:
        report = await rotate_blobs(
            session, table=OrgProviderCredential, column="payload", old=OLD, new=NEW
        )
    async with get_session() as session:
        row = (await session.scalars(select(OrgProviderCredential))).one()
        print(f"rotated {report.rotated}, ssh_key_id {row.payload['ssh_key_id']}")
    await close_engine()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
