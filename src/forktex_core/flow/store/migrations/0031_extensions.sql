-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- The columns that extensions added to `run` and `schedule` (store/columns.py), whoever did.
CREATE TABLE {schema}.extension_column (
    name     text PRIMARY KEY,
    type     text NOT NULL,
    isolates boolean NOT NULL
);
