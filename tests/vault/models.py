# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The tables of the vault's tests."""

import uuid
from typing import Any

from sqlalchemy import JSON, ForeignKey, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from forktex_core.vault import BlindIndex, EncryptedBytes, EncryptedJSON, EncryptedText, Vault

OLD = Vault.from_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
NEW = Vault.from_key("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
BOTH = Vault.from_keys(
    [
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
    ]
)
NEW_FIRST = Vault.from_keys(
    [
        "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ]
)


class Base(DeclarativeBase):
    """Metadata of these tests only."""


class Credential(Base):
    """As in the seed, without its base model."""

    __tablename__ = "credential"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    payload: Mapped[dict | None] = mapped_column(EncryptedJSON(BOTH))


class Tracked(Base):
    """In-place changes are noticed, because it chose so."""

    __tablename__ = "tracked"
    id: Mapped[int] = mapped_column(primary_key=True)
    payload: Mapped[dict] = mapped_column(MutableDict.as_mutable(EncryptedJSON(BOTH)))


class Setting(Base):
    """A composite key, and tokens bound to their column."""

    __tablename__ = "setting"
    org: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(EncryptedJSON(BOTH, context=("setting", "value")))
    note: Mapped[str | None] = mapped_column(EncryptedText(BOTH, compress=True))
    blob: Mapped[bytes | None] = mapped_column(EncryptedBytes(BOTH))


class Person(Base):
    """Found by an encrypted value."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    payload: Mapped[dict] = mapped_column(EncryptedJSON(BOTH))
    email: Mapped[str | None] = mapped_column(
        BlindIndex(BOTH, normalize=str.casefold, context="person.email"), index=True
    )


class Legacy(Base):
    """Tokens in plain columns, as older code left them."""

    __tablename__ = "legacy"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent: Mapped[int | None] = mapped_column(ForeignKey("legacy.id"))
    text: Mapped[str | None] = mapped_column(Text)
    doc: Mapped[Any] = mapped_column(JSONB, nullable=True)
    raw: Mapped[Any] = mapped_column(JSON, nullable=True)
