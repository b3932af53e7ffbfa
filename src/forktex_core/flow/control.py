# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What may be done to a run from outside."""

from typing import Any
from uuid import UUID

from forktex_core.flow.client import Client, run_uuid
from forktex_core.flow.codec import Shape
from forktex_core.flow.errors import RunFinishedError, RunNotFoundError
from forktex_core.flow.workflow import check_name


class Control(Client):
    """The part of Flow that acts on runs."""

    async def send_signal(
        self,
        run_id: UUID | str,
        name: str,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
    ) -> bool:
        """Send a signal to a run. It is kept until the run waits for it, and delivered once, in
        order.

        Args:
            run_id: the run.
            name: what the run waits for.
            payload: any JSON value, or what pydantic makes JSON of.
            idempotency_key: a second signal to the run with the same key is dropped.

        Returns:
            False when the key was used before.

        Raises:
            RunNotFoundError: there is no such run.
            RunFinishedError: the run has ended.
            PayloadError: the payload can't be carried.
        """
        opened = self._open
        run_id = run_uuid(run_id)
        check_name(name, "signal")
        text = Shape(type(payload)).encode(
            payload, f"the payload of signal {name!r}", self._max_payload
        )
        sent = await opened.store.send_signal(run_id, name, text, idempotency_key)
        if sent["outcome"] == "unknown":
            raise RunNotFoundError(run_id)
        if sent["outcome"] == "finished":
            raise RunFinishedError(run_id, sent["status"], f"it takes no signal {name!r} any more")
        if sent["outcome"] == "sent":
            self._tell_of_signal(run_id, sent)
        return bool(sent["outcome"] == "sent")
