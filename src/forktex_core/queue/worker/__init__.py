# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The process that runs jobs: one `Worker`, one `Consumer` for each of its queues."""

from forktex_core.queue.worker.worker import Worker

__all__ = ["Worker"]
