# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the tests of `cached` decorate."""

import asyncio
from typing import Any


class Counted:
    """A function's body that counts its runs and can be held or made to fail."""

    def __init__(self, value: Any = "v") -> None:
        self.value, self.calls, self.running = value, 0, 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Any:
        self.calls += 1
        self.running += 1
        value = self.value
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return value
