# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Has a body changed without a new version? The manifest of a service's bodies, and how the code at
hand differs from it.

The manifest is a file to be committed: for each workflow and version the hash of its body, and the
normalised source behind it, so that a difference can be shown long after the old code is gone.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from forktex_core.flow.errors import ManifestError, SourceNotFoundError
from forktex_core.flow.lint import Finding, lint
from forktex_core.flow.workflow import Workflow

if TYPE_CHECKING:
    from forktex_core.flow.flow import Flow

MANIFEST = "forktex-flow.lock.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Body:
    """What a manifest holds of a workflow: the hash of its body and the source behind the hash."""

    hash: str
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The bodies of a service, by ``name@version``."""

    bodies: dict[str, Body] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            ManifestError: there is none, or it is broken.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ManifestError(
                f"there is no manifest {path}: write one with --update, and commit it"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(
                f"manifest {path} can't be read ({type(error).__name__}: {error}): restore it from "
                "version control, or delete it and write it anew with --update"
            ) from error

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Return what to_json() wrote down; raises whatever is wrong with the text."""
        content = json.loads(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, this release writes {_FORMAT}")
        found = {}
        for lane, body in content["workflows"].items():
            if not isinstance(body["hash"], str) or not isinstance(body["source"], list):
                raise ValueError(f"{lane}: no hash or no source")
            found[lane] = Body(body["hash"], tuple(map(str, body["source"])))
        return cls(found)

    def to_json(self) -> str:
        """Return the manifest as text: a line of source each, so that reviews can read it."""
        workflows = {
            lane: {"hash": body.hash, "source": list(body.source)}
            for lane, body in sorted(self.bodies.items())
        }
        content = {"format": _FORMAT, "workflows": workflows}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


type Kind = Literal["changed", "added", "removed", "unreadable"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How one workflow of the code differs from the manifest.

    Attributes:
        kind: ``changed``: the body is another under the same version. ``added``: the manifest
            doesn't know this workflow or version. ``removed``: the code no longer has it.
            ``unreadable``: its source is not to be had, ``diff`` says why.
        workflow, version: which one.
        diff: lines of a unified diff of the normalised sources, old to new.
    """

    kind: Kind
    workflow: str
    version: int
    diff: tuple[str, ...] = ()

    @property
    def lane(self) -> str:
        """Name and version."""
        return f"{self.workflow}@{self.version}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        bodies: the bodies of the code at hand.
        differences: from the manifest.
        findings: what the lint says, see lint.py.
    """

    bodies: dict[str, Body]
    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...]

    def of_kind(self, kind: Kind) -> list[Difference]:
        """Return the differences of one kind."""
        return [d for d in self.differences if d.kind == kind]

    def updated(self, old: Manifest, *, force: bool = False) -> Manifest:
        """Return the manifest that fits the code.

        An entry whose hash is still right keeps its source as it is, so the Python version that
        writes the manifest makes no noise in it. One whose source is not to be had is kept.

        Raises:
            ManifestError: a body changed under its version, and ``force`` is not set.
        """
        changed = [d.lane for d in self.of_kind("changed")]
        if changed and not force:
            raise ManifestError(
                f"{', '.join(changed)} changed without a new version: raise version= of each and "
                "update again; or --force, when no run of it is in flight"
            )
        new = {
            lane: old.bodies[lane] if _same(old.bodies.get(lane), body) else body
            for lane, body in self.bodies.items()
        }
        kept = [d.lane for d in self.of_kind("unreadable") if d.lane in old.bodies]
        return Manifest(new | {lane: old.bodies[lane] for lane in kept})


def _same(old: Body | None, new: Body) -> bool:
    return old is not None and old.hash == new.hash


def audit(flow: "Flow", manifest: Manifest) -> Audit:
    """Compare the workflows of a Flow with a manifest, and lint their bodies. Needs no database."""
    return audit_workflows(flow.workflows, manifest)


def audit_workflows(workflows: Iterable[Workflow[Any, Any]], manifest: Manifest) -> Audit:
    """Compare workflows with a manifest, and lint their bodies."""
    bodies: dict[str, Body] = {}
    differences: list[Difference] = []
    findings: dict[Finding, None] = {}
    lanes = set()
    for workflow in sorted(workflows, key=lambda w: (w.name, w.version)):
        lanes.add(workflow.lane)
        try:
            found = workflow.fingerprint
            findings |= dict.fromkeys(lint(workflow))
        except SourceNotFoundError as error:
            differences.append(
                Difference("unreadable", workflow.name, workflow.version, (str(error),))
            )
            continue
        body = bodies[workflow.lane] = Body(found.hash, found.source)
        differences += _compare(workflow, manifest.bodies.get(workflow.lane), body)
    differences += [_removed(lane) for lane in sorted(manifest.bodies) if lane not in lanes]
    return Audit(bodies, tuple(differences), tuple(findings))


def _compare(workflow: Workflow[Any, Any], old: Body | None, new: Body) -> list[Difference]:
    if old is None:
        return [Difference("added", workflow.name, workflow.version)]
    if old.hash == new.hash:
        return []
    lines = difflib.unified_diff(
        old.source, new.source, "in the manifest", "in the code", lineterm="", n=3
    )
    diff = tuple(lines) or ("the hash alone differs: the manifest was edited by hand",)
    return [Difference("changed", workflow.name, workflow.version, diff)]


def _removed(lane: str) -> Difference:
    name, _, version = lane.rpartition("@")
    return Difference("removed", name, int(version) if version.isdecimal() else 0)
