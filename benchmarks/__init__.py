# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Measurements: each module runs on its own, ``python -m benchmarks.flow``; ``python -m
benchmarks`` runs the quick ones.
"""
