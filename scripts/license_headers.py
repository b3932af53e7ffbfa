# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Keep the two SPDX lines at the head of every source file.

    python scripts/license_headers.py check|fix|strip [FILE...]

Without files: all that git tracks or would track. What must come first in a file stays first (a
byte order mark, ``#!``, an encoding line, ``<!DOCTYPE``, ``@charset``), and bytes are never
decoded, so that any encoding and any line ending comes out as it went in. `fix` after `fix` changes
nothing, and `strip` after `fix` gives back a file that had no header, byte for byte (a lone ``#!``
line without an ending gains one).
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

COPYRIGHT = b"SPDX-FileCopyrightText: 2026 ForkTex"
LICENSE = b"SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial"


class Comment(NamedTuple):
    """How a language writes a comment of one line, and what has to stand before it."""

    start: bytes
    end: bytes = b""
    first: re.Pattern[bytes] | None = None

    def write(self, text: bytes) -> bytes:
        """`text` as a comment, without a line ending."""
        return b" ".join(filter(None, (self.start, text, self.end)))

    def read(self, line: bytes) -> bytes | None:
        """The text of a line that is a whole comment; None for any other line."""
        line = line.strip()
        if not (line.startswith(self.start) and line.endswith(self.end)):
            return None
        return line[len(self.start) : len(line) - len(self.end)].strip()


_HASH = Comment(b"#", first=re.compile(rb"#!"))
_SLASHES = Comment(b"//", first=re.compile(rb"#!"))
_DASHES = Comment(b"--", first=re.compile(rb"#!"))
_MARKUP = Comment(b"<!--", b"-->", first=re.compile(rb"\s*<!doctype\b[^>]*>", re.IGNORECASE))
_BLOCK = Comment(b"/*", b"*/", first=re.compile(rb'@charset "[^"]*";'))
COMMENTS = {
    **dict.fromkeys((".py", ".pyi", ".sh", ".toml", ".yml", ".yaml", ".cfg", ".ini"), _HASH),
    **dict.fromkeys((".js", ".mjs", ".ts"), _SLASHES),
    **dict.fromkeys((".sql", ".lua"), _DASHES),
    ".html": _MARKUP,
    ".css": _BLOCK,
}

_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"^[ \t\f]*(#.*)?[\r\n]*$")
_ENCODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+")  # PEP 263
_SPDX = re.compile(rb"SPDX-(FileCopyrightText|License-Identifier):")


class ForeignHeaderError(ValueError):
    """A file that carries somebody else's SPDX lines, which must not be overwritten."""

    def __init__(self, line: bytes) -> None:
        super().__init__(f"has another holder's header, left alone: {line.decode('latin-1')}")
        self.line = line


class Parts(NamedTuple):
    """A file taken apart: what must come first, the header's lines, the rest."""

    preamble: bytes
    header: list[bytes]
    body: bytes


def comment_of(path: Path) -> Comment | None:
    """The comment style of a source file; None for a file that carries no header."""
    if path.suffix in COMMENTS:
        return COMMENTS[path.suffix]
    if path.suffix == "" and path.is_file():
        with path.open("rb") as file:
            return _HASH if file.read(2) == b"#!" else None
    return None


def _lines(content: bytes) -> list[bytes]:
    """The lines with their endings, cut at LF, CR LF and CR only."""
    return re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", content)


def _preamble_length(lines: list[bytes], comment: Comment) -> int:
    """How many lines have to stay before the header."""
    first = 1 if lines and comment.first and comment.first.match(lines[0]) else 0
    if comment is not _HASH:
        return first
    for number, line in enumerate(lines[:2], 1):
        if _ENCODING.match(line):
            return number
        if not _BLANK.match(line):
            break
    return first


def take_apart(content: bytes, comment: Comment) -> Parts:
    """Split a file around its header; raises `ForeignHeaderError` for somebody else's."""
    bom = _BOM if content.startswith(_BOM) else b""
    lines = _lines(content[len(bom) :])
    start = end = _preamble_length(lines, comment)
    texts = []
    while end < len(lines) and _SPDX.match(text := comment.read(lines[end]) or b""):
        if text.startswith(b"SPDX-FileCopyrightText") and not text.endswith(b" ForkTex"):
            raise ForeignHeaderError(text)
        texts.append(text)
        end += 1
    return Parts(bom + b"".join(lines[:start]), texts, b"".join(lines[end:]))


def _line_ending(content: bytes) -> bytes:
    found = re.search(rb"\r\n|\r|\n", content)
    return found[0] if found else b"\n"


def fix(content: bytes, comment: Comment) -> bytes:
    """The file with exactly our header."""
    parts = take_apart(content, comment)
    if parts.header == [COPYRIGHT, LICENSE]:
        return content
    ending = _line_ending(content)
    before = parts.preamble
    if before and before != _BOM and not before.endswith((b"\r", b"\n")):
        before += ending
    header = b"".join(comment.write(text) + ending for text in (COPYRIGHT, LICENSE))
    return before + header + parts.body


def strip(content: bytes, comment: Comment) -> bytes:
    """The file without our header."""
    parts = take_apart(content, comment)
    return parts.preamble + parts.body if parts.header else content


def complaint(content: bytes, comment: Comment) -> str | None:
    """What is wrong with the file's header, in words; None when it is right."""
    header = take_apart(content, comment).header
    if header == [COPYRIGHT, LICENSE]:
        return None
    return "has no licence header" if not header else "has an outdated licence header"


def listed_by_git() -> list[Path]:
    """All files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.split(b"\0")
    return sorted(path for name in names if name and (path := Path(name.decode())).is_file())


def run(action: str, paths: Iterable[Path]) -> list[str]:
    """Check, fix or strip the files; returns one line for each that needs attention."""
    lines = []
    for path in paths:
        comment = comment_of(path)
        if comment is None:
            continue
        content = path.read_bytes()
        try:
            if action == "check":
                found = complaint(content, comment)
                lines += [f"{path}: {found}"] if found else []
                continue
            changed = {"fix": fix, "strip": strip}[action](content, comment)
        except ForeignHeaderError as error:
            lines.append(f"{path}: {error}")
            continue
        if changed != content:
            path.write_bytes(changed)
            print(f"{path}: {action}")
    return lines


def main(arguments: list[str]) -> int:
    """Run the action that is named first on the files named after it."""
    if not arguments or arguments[0] not in {"check", "fix", "strip"}:
        print(__doc__, file=sys.stderr)
        return 2
    attention = run(arguments[0], [Path(name) for name in arguments[1:]] or listed_by_git())
    print("\n".join(attention) or f"licence headers: {arguments[0]} done", file=sys.stderr)
    if attention and arguments[0] == "check":
        print("`make license-fix` puts the headers in place.", file=sys.stderr)
    return 1 if attention else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
