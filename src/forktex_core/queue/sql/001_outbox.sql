-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Jobs that a transaction enqueued; gone as soon as they are relayed to Redis.
CREATE TABLE forktex_queue.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    message text NOT NULL,
    words text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
)
