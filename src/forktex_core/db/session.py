# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The session class behind `get_session`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session, SessionTransaction

_SET = "SELECT " + "set_config('{}', :{}, true)"


class OrgSession(Session):
    """A session that applies its transaction's settings when the transaction begins."""

    def __init__(
        self,
        *args: Any,
        transaction_settings: Mapping[str, str],
        row_security: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.transaction_settings = transaction_settings
        self.row_security = row_security


@event.listens_for(OrgSession, "after_begin")
def _apply_settings(
    session: OrgSession, _transaction: SessionTransaction, connection: Connection
) -> None:
    for name, value in session.transaction_settings.items():
        connection.execute(
            text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value}
        )
