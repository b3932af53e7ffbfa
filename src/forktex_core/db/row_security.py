# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Row-level security for scoped models: the wall behind the session's filter.

The policy compares `org_id` with the setting that `OrgSession` makes for each transaction. Without
the setting it compares with null: no row is visible and none can be written.
"""

from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import class_mapper

from forktex_core.db.errors import ConfigurationError
from forktex_core.db.scope import OrgScopedMixin
from forktex_core.db.session import ORG_SETTING

_POLICY = "forktex_org_scope"
_BYPASS = "forktex_every_org"
_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own


def row_security_ddl(*models: type[OrgScopedMixin], every_org_role: str | None = None) -> list[str]:
    """The statements that put the models' tables under row-level security, for a migration.

        for statement in row_security_ddl(Invoice, Payment):
            op.execute(statement)

    The engine must be made with `row_security=True`. `every_org_role` names a database role that
    sees all organisations; without one, `unscoped()` sees no rows of these tables. Superusers and
    roles with BYPASSRLS are past every policy: the service must not connect as one. Raises
    `ConfigurationError` for a model whose table has no `org_id`.
    """
    statements = []
    for model in models:
        table, own = _table(model)
        statements += [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY {_POLICY} ON {table} USING ({own}) WITH CHECK ({own})",
        ]
        if every_org_role is not None:
            role = _dialect.identifier_preparer.quote_identifier(every_org_role)
            statements.append(
                f"CREATE POLICY {_BYPASS} ON {table} TO {role} USING (true) WITH CHECK (true)"
            )
    return statements


def drop_row_security_ddl(*models: type[OrgScopedMixin]) -> list[str]:
    """The statements that undo those of `row_security_ddl`, for the downgrade."""
    statements = []
    for model in models:
        table, _ = _table(model)
        statements += [
            f"DROP POLICY IF EXISTS {_BYPASS} ON {table}",
            f"DROP POLICY IF EXISTS {_POLICY} ON {table}",
            f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        ]
    return statements


def _table(model: type[Any]) -> tuple[str, str]:
    """The quoted table, and the condition under which a row of it may be seen."""
    table = class_mapper(model).local_table
    if not isinstance(table, Table) or "org_id" not in class_mapper(model).columns:
        raise ConfigurationError(f"{model.__name__} is not a scoped model with a table of its own")
    column = class_mapper(model).columns["org_id"]
    if column.table is not table:
        raise ConfigurationError(
            f"the table of {model.__name__} has no org_id of its own (it is its parent's); "
            "protect the parent, or give this table the column too"
        )
    quote = _dialect.identifier_preparer
    setting = f"NULLIF(current_setting('{ORG_SETTING}', true), '')"
    kind = column.type.compile(dialect=_dialect)
    return quote.format_table(table), f"{quote.format_column(column)} = CAST({setting} AS {kind})"
