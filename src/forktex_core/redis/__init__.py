# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The former name of `forktex_core.cache`: the same objects, until 1.0."""

import warnings

from forktex_core.cache import *  # noqa: F403
from forktex_core.cache import __all__ as __all__

warnings.warn(
    "forktex_core.redis is now called forktex_core.cache; the old name goes with 1.0",
    DeprecationWarning,
    stacklevel=2,
)
