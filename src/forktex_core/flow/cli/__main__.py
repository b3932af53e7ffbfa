# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``python -m forktex_core.flow.cli``, which is ``forktex-flow``."""

from forktex_core.flow.cli import main

main(prog_name="forktex-flow")
