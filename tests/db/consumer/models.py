# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The models of a service that uses this library: one of everything that Alembic compares."""

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Enum, ForeignKey, Index, Numeric, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from forktex_core.db import (
    AuditMixin,
    BaseDBModel,
    OrgScopedMixin,
    SoftDeleteMixin,
    TimestampMixin,
    VersionedMixin,
)


class Kind(StrEnum):
    """What an enumeration looks like."""

    DRAFT = "draft"
    SENT = "sent"


class Organisation(BaseDBModel):
    __tablename__ = "organisation"
    name: Mapped[str] = mapped_column(unique=True)


class Member(AuditMixin, BaseDBModel):
    __tablename__ = "member"
    __actor_fk__ = "member.id"
    email: Mapped[str] = mapped_column(unique=True)


class Invoice(
    TimestampMixin, AuditMixin, OrgScopedMixin, SoftDeleteMixin, VersionedMixin, BaseDBModel
):
    __tablename__ = "invoice"
    __org_fk__ = "organisation.id"
    __actor_fk__ = "member.id"
    __table_args__ = (
        UniqueConstraint("org_id", "number"),
        CheckConstraint("total >= 0", name="total_is_positive"),
        Index(None, "org_id", "kind", "due", postgresql_where=text("deleted_at IS NULL")),
    )
    number: Mapped[int]
    total: Mapped[Any] = mapped_column(Numeric(12, 2))
    due: Mapped[str | None] = mapped_column(index=True)
    kind: Mapped[Kind] = mapped_column(Enum(Kind, name="invoice_kind"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    details: Mapped[dict[str, Any]]
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoice.id"))
