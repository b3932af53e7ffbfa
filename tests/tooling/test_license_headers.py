# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The script that keeps the SPDX headers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scripts.license_headers import (
    COMMENTS,
    COPYRIGHT,
    LICENSE,
    Comment,
    ForeignHeaderError,
    comment_of,
    complaint,
    fix,
    strip,
    take_apart,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "license_headers.py"
PYTHON = COMMENTS[".py"]
HEADER = b"# " + COPYRIGHT + b"\n# " + LICENSE + b"\n"

# Lines that matter to a header, mixed with any other bytes.
_TELLING = [
    b"",
    b"#!/usr/bin/env python3",
    b"# -*- coding: latin-1 -*-",
    b'@charset "utf-8";',
    b"<!DOCTYPE html>",
    b"# a comment",
    b"code = 1",
    b"# " + COPYRIGHT,
    b"# " + LICENSE,
    b"/* " + COPYRIGHT + b" */",
    b"-- " + LICENSE,
    b"# SPDX-License-Identifier: AGPL-3.0-only",
]
_LINES = st.lists(st.sampled_from(_TELLING) | st.binary(max_size=12), max_size=6)
_ENDINGS = st.sampled_from([b"\n", b"\r\n", b"\r"])
_STYLES = st.sampled_from(sorted(COMMENTS))


def _file(lines: list[bytes], ending: bytes, bom: bool, last: bool) -> bytes:
    content = ending.join(lines) + (ending if last else b"")
    return b"\xef\xbb\xbf" + content if bom else content


_FILES = st.builds(_file, _LINES, _ENDINGS, st.booleans(), st.booleans())


@given(content=_FILES, suffix=_STYLES)
def test_a_fixed_file_is_right_and_stays_as_it_is(content: bytes, suffix: str) -> None:
    """`check` passes after `fix`, and a second `fix` changes nothing."""
    once = fix(content, COMMENTS[suffix])
    assert complaint(once, COMMENTS[suffix]) is None
    assert fix(once, COMMENTS[suffix]) == once


@given(content=_FILES, suffix=_STYLES)
def test_strip_undoes_fix_to_the_byte(content: bytes, suffix: str) -> None:
    """A file without a header comes back as it was: encoding, line endings, last line and all."""
    comment = COMMENTS[suffix]
    assume(b"SPDX" not in content)
    preamble_only = not take_apart(content, comment).body
    assume(
        not preamble_only or content.endswith((b"\n", b"\r")) or content in {b"", b"\xef\xbb\xbf"}
    )
    assert strip(fix(content, comment), comment) == content


@given(content=_FILES, suffix=_STYLES)
def test_strip_leaves_no_header(content: bytes, suffix: str) -> None:
    """After `strip`, `check` misses the header, and `fix` puts back exactly one."""
    bare = strip(content, COMMENTS[suffix])
    fixed = fix(bare, COMMENTS[suffix])
    assert fixed.count(LICENSE) == bare.count(LICENSE) + (
        complaint(bare, COMMENTS[suffix]) is not None
    )


@pytest.mark.parametrize(
    ("suffix", "before", "after"),
    [
        (".py", b"", HEADER),
        (".py", b"\n\nx = 1\n", HEADER + b"\n\nx = 1\n"),
        (".py", b"x = 1", HEADER + b"x = 1"),
        (".py", b"#!/bin/python\nx = 1\n", b"#!/bin/python\n" + HEADER + b"x = 1\n"),
        (
            ".py",
            b"#!/bin/python\n# coding: latin-1\n'\xe9'\n",
            b"#!/bin/python\n# coding: latin-1\n" + HEADER + b"'\xe9'\n",
        ),
        (
            ".py",
            b"\n# vim: set fileencoding=cp1252 :\n",
            b"\n# vim: set fileencoding=cp1252 :\n" + HEADER,
        ),
        (".py", b"x = 1\n# coding: latin-1\n", HEADER + b"x = 1\n# coding: latin-1\n"),
        (".py", b"x = 1\r\ny = 2\r\n", HEADER.replace(b"\n", b"\r\n") + b"x = 1\r\ny = 2\r\n"),
        (".py", b"\xef\xbb\xbfx = 1\n", b"\xef\xbb\xbf" + HEADER + b"x = 1\n"),
        (".sh", b"#!/bin/sh", b"#!/bin/sh\n" + HEADER),
        (".sql", b"SELECT 1;\n", HEADER.replace(b"# ", b"-- ") + b"SELECT 1;\n"),
        (".js", b"f();\n", HEADER.replace(b"# ", b"// ") + b"f();\n"),
        (
            ".css",
            b'@charset "utf-8";\na {}\n',
            b'@charset "utf-8";\n/* ' + COPYRIGHT + b" */\n/* " + LICENSE + b" */\na {}\n",
        ),
        (
            ".html",
            b"<!doctype html>\n<p>\n",
            b"<!doctype html>\n<!-- " + COPYRIGHT + b" -->\n<!-- " + LICENSE + b" -->\n<p>\n",
        ),
        (".toml", b"[a]\n", HEADER + b"[a]\n"),
        (".py", b"# SPDX-License-Identifier: AGPL-3.0-only\nx = 1\n", HEADER + b"x = 1\n"),
        (".py", b"# SPDX-FileCopyrightText: 2024 ForkTex\n\nx = 1\n", HEADER + b"\nx = 1\n"),
    ],
)
def test_where_the_header_goes(suffix: str, before: bytes, after: bytes) -> None:
    """What must come first stays first; old headers are replaced; nothing else changes."""
    assert fix(before, COMMENTS[suffix]) == after


@given(
    first=st.sampled_from([b"#!/usr/bin/python\n", b"\n", b"# words\n", b""]),
    encoding=st.sampled_from(["latin-1", "cp1252", "utf-8", "koi8-r"]),
)
def test_python_still_reads_the_file_in_its_encoding(first: bytes, encoding: str) -> None:
    """The encoding line keeps its effect: Python sees the same string before and after."""
    letter = bytes([0xE9]).decode(encoding, "ignore") or "é"
    source = first + f"# coding: {encoding}\nletter = {letter!r}\n".encode(encoding)
    before, after = ast.parse(source), ast.parse(fix(source, PYTHON))
    assert ast.dump(before) == ast.dump(after)


def test_somebody_elses_header_is_left_alone() -> None:
    """A file of another holder is refused, never claimed."""
    content = b"# SPDX-FileCopyrightText: 2020 Somebody\n# SPDX-License-Identifier: MIT\n"
    for action in (fix, strip, complaint):
        with pytest.raises(ForeignHeaderError, match="2020 Somebody"):
            action(content, PYTHON)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("run", b"#!/bin/sh\n", PYTHON),
        ("LICENSE", b"words", None),
        ("data.json", b"{}", None),
        ("page.md", b"# title", None),
        ("a.sql", b"", COMMENTS[".sql"]),
    ],
)
def test_which_files_carry_one(
    tmp_path: Path, name: str, content: bytes, expected: Comment | None
) -> None:
    """Sources by their suffix, scripts without one by their first line, texts and data never."""
    path = tmp_path / name
    path.write_bytes(content)
    assert comment_of(path) == expected


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path) -> None:
    """In a repository: `check` names what is missing, `fix` mends it, `strip` undoes that."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    source, ignored = tmp_path / "a.py", tmp_path / "b.py"
    source.write_bytes(b"x = 1\n")
    ignored.write_bytes(b"y = 1\n")
    (tmp_path / ".gitignore").write_text("b.py\n")

    missing = _run(tmp_path, "check")
    assert missing.returncode == 1
    assert "a.py: has no licence header" in missing.stderr
    assert "make license-fix" in missing.stderr
    assert "b.py" not in missing.stderr

    assert _run(tmp_path, "fix").returncode == 0
    assert _run(tmp_path, "check").returncode == 0
    assert source.read_bytes() == HEADER + b"x = 1\n"
    assert _run(tmp_path, "strip").returncode == 0
    assert source.read_bytes() == b"x = 1\n"
    assert ignored.read_bytes() == b"y = 1\n"


def test_the_command_refuses_other_words(tmp_path: Path) -> None:
    """An unknown action prints the usage and changes nothing."""
    refused = _run(tmp_path, "remove")
    assert refused.returncode == 2
    assert "check|fix|strip" in refused.stderr
