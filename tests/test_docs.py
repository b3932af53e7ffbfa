# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The Python examples of README.md and docs/ run as they stand."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```python *\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(text: str) -> list[tuple[int, str]]:
    """The blocks fenced as ``python`` (not ``python no-run``) with their first lines' numbers."""
    return [
        (text.count("\n", 0, found.start(1)) + 1, found.group(1)) for found in FENCE.finditer(text)
    ]


def blocks_of(path: str) -> list[tuple[int, str]]:
    """The examples of one document."""
    return blocks((ROOT / path).read_text())


def documents() -> list[str]:
    """The documents that hold examples."""
    every = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [name for name in (str(path.relative_to(ROOT)) for path in every) if blocks_of(name)]


async def run_block(path: str, line: int, source: str, names: dict[str, Any]) -> None:
    """Execute one block; a failure names file and line, its traceback points there as well."""
    try:
        tree = ast.increment_lineno(ast.parse(source), line - 1)
        code = compile(tree, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as exc:
        raise AssertionError(f"{path}:{line}: the example fails: {exc!r}") from exc


@pytest.mark.parametrize("path", documents())
async def test_examples_run(path: str, database: Database, redis_url: str) -> None:
    """Every Python block of a document runs, in order, in one namespace."""
    names = {"__name__": "example", "DATABASE_URL": database.url, "REDIS_URL": redis_url}
    for line, source in blocks_of(path):
        await run_block(path, line, source, names)


async def test_a_failing_example_is_named() -> None:
    """The message of a failing block names its file and line; blocks marked no-run are left out."""
    text = "# x\n```python no-run\nboom()\n```\n\n```python\nx = 1\n\nboom()\n```\n"
    [(line, source)] = blocks(text)
    assert line == 7
    with pytest.raises(AssertionError, match=r"README\.md:7: .*boom"):
        await run_block("README.md", line, source, {})
