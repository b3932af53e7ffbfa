# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Ask an advisory service about every package that an environment holds.

    python scripts/audit.py FOLDER [--must-run]

``pip-audit`` says "no known vulnerabilities" also when the service knew none of the packages, as a
plain mirror does. So the service is asked about a release with known holes as well: only one that
finds those is believed. Where it can't be asked, the audit says NOT RUN, and that is no pass: with
``--must-run`` it is a failure, without it the exit status is 0, for work without a network.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_CANARY = ("jinja2", "2.10")  # CVE-2019-10906 and later ones


def query(folder: Path) -> list[dict[str, Any]] | None:
    """What the service says of each package below `folder`; None when it could not be asked."""
    command = ["pip-audit", "--skip-editable", "--progress-spinner=off", "--format=json"]
    done = subprocess.run(
        [*command, f"--path={folder}"], capture_output=True, text=True, check=False
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(done.stderr.strip().rpartition("\n")[2])
        return None
    return found


def service_knows_a_known_hole() -> bool:
    """Whether the service reports the vulnerabilities of an old release that certainly has some."""
    name, version = _CANARY
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder, f"{name}-{version}.dist-info", "METADATA")
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return any(package.get("vulns") for package in query(Path(folder)) or [])


def verdict(packages: list[dict[str, Any]]) -> tuple[bool, list[str]]:
    """Whether all is well, and the lines that say so."""
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}"
        f" (mended in {', '.join(hole.get('fix_versions', [])) or 'no release yet'})"
        for package in packages
        for hole in package.get("vulns", [])
    ]
    skipped = [
        f"not audited: {package['skip_reason']}" for package in packages if "skip_reason" in package
    ]
    asked = len(packages) - len(skipped)
    head = f"audit: {asked} packages looked up, {len(holes)} known vulnerabilities"
    return not holes, [head, *holes, *skipped]


def main(arguments: list[str]) -> int:
    """Audit the folder that is named first; returns the exit status."""
    packages = query(Path(arguments[0])) if service_knows_a_known_hole() else None
    if packages is None:
        print("audit: NOT RUN: no advisory service could be asked. This is not a pass.")
        return 1 if "--must-run" in arguments else 0
    well, lines = verdict(packages)
    print("\n".join(lines))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
