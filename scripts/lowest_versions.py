# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Print constraints that hold a project to the lowest dependencies that its metadata allows.

    python scripts/lowest_versions.py pyproject.toml requirements/dev-constraints.txt

Each ``name>=version`` of the dependencies and of the extras becomes ``name==version``. Development
tools are not part of the metadata: they keep their pins, unless the metadata names them too, or
names a package of the same family (``opentelemetry-sdk`` goes with ``opentelemetry-api``).
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

_REQUIREMENT = re.compile(
    r"^\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*(?P<versions>[^;]*)"
)
_FLOOR = re.compile(r"(?:>=|~=|==)\s*(?P<version>[A-Za-z0-9.!+_-]+)")


class NoFloorError(ValueError):
    """A requirement that allows any version, so that nobody can say which is the lowest."""

    def __init__(self, requirement: str) -> None:
        super().__init__(
            f"{requirement!r} names no lowest version: write 'name>=version' in pyproject.toml"
        )
        self.requirement = requirement


def canonical(name: str) -> str:
    """The name as installers compare it: lower case, runs of ``-_.`` as one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def floor(requirement: str) -> tuple[str, str]:
    """Name and lowest version of one requirement; raises `NoFloorError` where it has none."""
    parts = _REQUIREMENT.match(requirement)
    version = _FLOOR.search(parts["versions"]) if parts else None
    if parts is None or version is None:
        raise NoFloorError(requirement)
    return canonical(parts["name"]), version["version"]


def floors(project: dict[str, Any]) -> dict[str, str]:
    """Lowest versions of all dependencies and extras in a ``[project]`` table."""
    extras = project.get("optional-dependencies", {}).values()
    listed = [*project.get("dependencies", []), *(line for extra in extras for line in extra)]
    own = canonical(project["name"])
    return dict(floor(line) for line in listed if canonical(line.partition("[")[0]) != own)


def tools(groups: dict[str, list[Any]], pins: str) -> dict[str, str]:
    """The pinned versions of what the dependency groups name, and of nothing beneath it."""
    pinned = dict(line.split("==") for line in pins.splitlines() if re.match(r"^[\w.-]+==", line))
    named = [line for group in groups.values() for line in group if isinstance(line, str)]
    names = {floor(line)[0] for line in named}
    return {canonical(n): v.strip() for n, v in pinned.items() if canonical(n) in names | {"pip"}}


def main(arguments: list[str]) -> int:
    """Read the two files named in the arguments and print the constraints."""
    metadata = tomllib.loads(Path(arguments[0]).read_text())
    pins = tools(metadata.get("dependency-groups", {}), Path(arguments[1]).read_text())
    lowest = floors(metadata["project"])
    families = {name.partition("-")[0] for name in lowest if "-" in name}
    kept = {n: v for n, v in pins.items() if n.partition("-")[0] not in families}
    for name, version in sorted((kept | lowest).items()):
        print(f"{name}=={version}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
