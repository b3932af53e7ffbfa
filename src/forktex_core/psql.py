# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The former name of `forktex_core.db`: the same objects, until 1.0."""

import warnings

from forktex_core.db import *  # noqa: F403 - every public name, and no list to keep in step

warnings.warn(
    "forktex_core.psql is now forktex_core.db; the old name goes away with 1.0",
    DeprecationWarning,
    stacklevel=2,
)
