# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Durable execution on Postgres, and the modules that a service stands on around it.

Each module is imported on its own (``forktex_core.db``, ``forktex_core.flow``, …); importing this
package loads none.
"""

__version__ = "0.3.0"
