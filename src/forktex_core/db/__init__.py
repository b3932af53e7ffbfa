# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Async PostgreSQL: engine and session life cycle, base model and mixins, repositories."""

from forktex_core.db.audit import AuditMixin, acting_as, current_actor
from forktex_core.db.database import Database, EngineOptions, Health
from forktex_core.db.errors import (
    AlreadyInitializedError,
    CheckError,
    ConfigurationError,
    ConstraintError,
    CrossOrgError,
    CursorError,
    DBError,
    ForeignKeyError,
    InvalidValueError,
    MissingScopeError,
    MultipleFoundError,
    NotFoundError,
    NotInitializedError,
    NotNullError,
    QueryError,
    RetriesExhaustedError,
    ScopeError,
    StaleVersionError,
    UniqueError,
    UnknownFieldError,
    UnknownOperatorError,
    UnreachableError,
    UnscopedStatementError,
)
from forktex_core.db.model import NAMING_CONVENTION, BaseDBModel
from forktex_core.db.page import CursorPage, Page
from forktex_core.db.registry import (
    close_engine,
    get_database,
    get_engine,
    get_session,
    healthcheck,
    init_engine,
)
from forktex_core.db.repository import Repository
from forktex_core.db.retry import retry_transaction
from forktex_core.db.row_security import drop_row_security_ddl, row_security_ddl
from forktex_core.db.scope import OrgScopedMixin, current_org, org_scope, unscoped
from forktex_core.db.soft_delete import SoftDeleteMixin, include_deleted
from forktex_core.db.timestamps import TimestampMixin
from forktex_core.db.uuid7 import uuid7
from forktex_core.db.versioning import VersionedMixin

__all__ = [
    "NAMING_CONVENTION",
    "AlreadyInitializedError",
    "AuditMixin",
    "BaseDBModel",
    "CheckError",
    "ConfigurationError",
    "ConstraintError",
    "CrossOrgError",
    "CursorError",
    "CursorPage",
    "DBError",
    "Database",
    "EngineOptions",
    "ForeignKeyError",
    "Health",
    "InvalidValueError",
    "MissingScopeError",
    "MultipleFoundError",
    "NotFoundError",
    "NotInitializedError",
    "NotNullError",
    "OrgScopedMixin",
    "Page",
    "QueryError",
    "Repository",
    "RetriesExhaustedError",
    "ScopeError",
    "SoftDeleteMixin",
    "StaleVersionError",
    "TimestampMixin",
    "UniqueError",
    "UnknownFieldError",
    "UnknownOperatorError",
    "UnreachableError",
    "UnscopedStatementError",
    "VersionedMixin",
    "acting_as",
    "close_engine",
    "current_actor",
    "current_org",
    "drop_row_security_ddl",
    "get_database",
    "get_engine",
    "get_session",
    "healthcheck",
    "include_deleted",
    "init_engine",
    "org_scope",
    "retry_transaction",
    "row_security_ddl",
    "unscoped",
    "uuid7",
]
