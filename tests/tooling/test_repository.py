# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Rules that hold for the files of the repository as a whole."""

import ast
import hashlib
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forktex_core
from scripts.license_headers import LICENSE
from scripts.lowest_versions import canonical, floor

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MANIFEST: dict[str, Any] = json.loads((ROOT / "forktex.json").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
EXPRESSION = "AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial"
# The text of the licence as the Free Software Foundation publishes it.
AGPL = "0d96a4ff68ad6d4b6f1f30f713b18d5184912ba8dd389f86aa7710db079abcb0"

# Written so that they don't match themselves.
REGISTRY = re.compile(r"\b(pypi|pythonhosted|npmjs|debian)\.(org|com|io)\b", re.IGNORECASE)
PLACE = re.compile(r"(?<![\w.~}-])/(root|home/[a-z]\w*|Users|work|farm)/")
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)  # x[y](z) is no link there
TARGETS = """
    audit bench bench-peers build ci clean demo deps deps-lock format format-check fsd-check help
    license-check license-fix license-strip lint logs makefile start stop test test-all test-lowest
    test-matrix typecheck
""".split()


def _listed() -> Iterator[tuple[Path, str]]:
    """Every file of the repository that is text, with its text."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout: nobody knows which files belong to the repository")
    for name in sorted(filter(None, done.stdout.decode().split("\0"))):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield path.relative_to(ROOT), content.decode("utf-8", "replace")


def _sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / "src").rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text())


@pytest.mark.parametrize("pattern", [REGISTRY, PLACE], ids=["registry", "machine"])
def test_no_file_names_a_registry_or_a_place_on_a_machine(pattern: re.Pattern[str]) -> None:
    """Whoever builds this elsewhere, with another registry, meets no address of ours."""
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in _listed()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRY, "https://files.python" + "hosted.org/packages"),
        (REGISTRY, "index-url = https://py" + "pi.org/simple"),
        (PLACE, "python = /ro" + "ot/.pyenv"),
        (PLACE, "'/ho" + "me/somebody/project'"),
    ],
)
def test_the_patterns_can_match(pattern: re.Pattern[str], text: str) -> None:
    """The two searches find what they are for."""
    assert pattern.search(text)


def test_no_environment_variable_is_read() -> None:
    """The library takes its configuration as arguments: nothing looks into the environment."""
    readers = {"environ", "environb", "getenv"}
    found = [
        f"{path}:{node.lineno}"
        for path, tree in _sources()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in readers)
        or (isinstance(node, ast.ImportFrom) and {n.name for n in node.names} & readers)
    ]
    assert found == []


def test_functions_and_files_stay_short() -> None:
    """No function of the library is over 60 lines (its docstring apart), no file over 600."""
    long = []
    for path, tree in _sources():
        lines = len((ROOT / path).read_text().splitlines())
        long += [f"{path}: {lines} lines"] if lines >= 600 else []
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                said = node.body[0] if ast.get_docstring(node) is not None else None
                spared = (said.end_lineno or said.lineno) - said.lineno + 1 if said else 0
                size = (node.end_lineno or node.lineno) - node.lineno + 1 - spared
                long += [f"{path}:{node.lineno} {node.name}: {size} lines"] if size > 60 else []
    assert long == []


def test_one_version() -> None:
    """Metadata, manifest, package and changelog speak of the same release."""
    version = PYPROJECT["project"]["version"]
    assert forktex_core.__version__ == version
    assert MANIFEST["version"] == version
    assert [package["version"] for package in MANIFEST["packages"]] == [version]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_one_licence() -> None:
    """One SPDX expression everywhere, and the text that it names."""
    assert PYPROJECT["project"]["license"] == EXPRESSION
    assert LICENSE.decode() == f"SPDX-License-Identifier: {EXPRESSION}"
    assert f"SPDX-License-Identifier: {EXPRESSION}\n" in (ROOT / "NOTICE").read_text()
    assert "info@forktex.com" in (ROOT / "NOTICE").read_text()
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == AGPL


def test_every_tool_is_pinned() -> None:
    """Each development tool has exactly one exact version, and no line is anything else."""
    lines = (ROOT / "requirements/dev-constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)] == []
    names = [canonical(line.partition("==")[0]) for line in pins]
    assert len(names) == len(set(names))
    groups = PYPROJECT["dependency-groups"].values()
    tools = {
        floor(requirement)[0]
        for group in groups
        for requirement in group
        if isinstance(requirement, str)
    }
    assert tools | {"pip"} <= set(names)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_described(target: str) -> None:
    """The Makefile has the target, with a description and a command of its own."""
    rule = re.search(rf"^{target}: ## (.+)\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    assert rule is not None
    assert "TODO" not in rule[0]


def test_the_makefile_comes_from_the_manifest() -> None:
    """Every rule with a description is an atom's: its commands, in order, and nothing generated."""
    rules = re.findall(r"^[\w-]+: ## (.+)\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    atoms = [atom for atom in MANIFEST["fsd"]["atoms"].values() if not atom.get("disabled")]
    written = {(a["description"], "".join(f"\t{line}\n" for line in a["commands"])) for a in atoms}
    assert set(rules) == written


def test_disabled_atoms_say_why() -> None:
    """What the project leaves out of the standard, it leaves out for a reason."""
    disabled = [atom for atom in MANIFEST["fsd"]["atoms"].values() if atom.get("disabled")]
    assert all(len(atom["reason"]) > 20 for atom in disabled)


def test_links_are_not_sought_in_code() -> None:
    """`Model[x](y)` in a program is no link, whatever stands around it."""
    text = "[a](b)\n```python\nRepository[User](session)\n```\n`x[y](z)` and [c](d.md#e)\n"
    assert LINK.findall(CODE.sub("", text)) == ["b", "d.md"]


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of a Markdown file points to a file that exists."""
    broken = [
        f"{path}: {target}"
        for path, text in _listed()
        if path.suffix == ".md"
        for target in LINK.findall(CODE.sub("", text))
        if not (ROOT / path.parent / target).exists()
    ]
    assert broken == []
