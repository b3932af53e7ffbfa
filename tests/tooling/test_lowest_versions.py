# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The constraints that hold a project to its lowest dependencies."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.lowest_versions import NoFloorError, floor, floors, main, tools

ROOT = Path(__file__).parents[2]
_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}([-_.][a-z0-9]{1,5})?", fullmatch=True)
_VERSIONS = st.lists(st.integers(0, 99), min_size=1, max_size=3).map(
    lambda n: ".".join(map(str, n))
)


@given(
    name=_NAMES,
    version=_VERSIONS,
    extra=st.sampled_from(["", "[hiredis]", "[a,b]"]),
    cap=st.sampled_from(["", ",<99", ", != 3.1"]),
    marker=st.sampled_from(["", " ; python_version >= '3.13'"]),
    space=st.sampled_from(["", " "]),
)
def test_the_floor_of_any_requirement(
    name: str, version: str, extra: str, cap: str, marker: str, space: str
) -> None:
    """Extras, upper bounds, markers and blanks don't hide the lowest version."""
    found, lowest = floor(f"{name}{extra}{space}>={space}{version}{cap}{marker}")
    assert found == name.lower().replace("_", "-").replace(".", "-")
    assert lowest == version


@pytest.mark.parametrize("requirement", ["rich", "rich<14", "rich; python_version >= '3.12'", ""])
def test_a_requirement_without_a_floor(requirement: str) -> None:
    """Whoever allows any version is told how to write it."""
    with pytest.raises(NoFloorError, match="write 'name>=version'") as caught:
        floor(requirement)
    assert caught.value.requirement == requirement


def test_extras_count_and_the_project_itself_does_not() -> None:
    """An extra that names another extra of the project adds no constraint on the project."""
    project = {
        "name": "Our.Thing",
        "dependencies": ["a>=1"],
        "optional-dependencies": {"x": ["b>=2"], "all": ["our-thing[x]"]},
    }
    assert floors(project) == {"a": "1", "b": "2"}


def test_tools_keep_their_pins() -> None:
    """Of the pins, those that a dependency group names are kept, and pip; nothing beneath them."""
    pins = "# words\npytest==9.1\npluggy==1.5\npip==26.0\nRuff==0.8\n"
    assert tools({"dev": ["pytest>=8", "ruff>=0.7"]}, pins) == {
        "pytest": "9.1",
        "pip": "26.0",
        "ruff": "0.8",
    }


def test_this_project(capsys: pytest.CaptureFixture[str]) -> None:
    """Every dependency of pyproject.toml comes out at its floor, exactly once."""
    paths = [ROOT / "pyproject.toml", ROOT / "requirements/dev-constraints.txt"]
    assert main([str(path) for path in paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    project = tomllib.loads(paths[0].read_text())["project"]
    for requirement in project["dependencies"]:
        name, version = floor(requirement)
        assert lines.count(f"{name}=={version}") == 1
        assert sum(line.startswith(f"{name}==") for line in lines) == 1
