# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The notices and the page that shows them."""

import json
import threading
from html import escape
from pathlib import Path
from string import Template

PAGE = Template((Path(__file__).with_name("static") / "index.html").read_text())


class Board:
    """Notices in a file."""

    def __init__(self, file: Path, title: str) -> None:
        self.file = file
        self.title = title
        self.lock = threading.Lock()

    def notices(self) -> list[str]:
        """All notices, the oldest first."""
        return json.loads(self.file.read_text()) if self.file.exists() else []

    def add(self, text: str) -> None:
        """Keep one more."""
        with self.lock:
            new = self.file.with_suffix(".new")
            new.write_text(json.dumps([*self.notices(), text]))
            new.replace(self.file)

    def page(self) -> str:
        """The board as HTML."""
        items = "\n".join(f"<li>{escape(text)}</li>" for text in self.notices())
        return PAGE.substitute(title=escape(self.title), notices=items or "<li>No notice yet.</li>")
