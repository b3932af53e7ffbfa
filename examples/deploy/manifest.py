# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What to deploy, read from a file and checked before anything begins."""

import json
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MANIFEST = Path(__file__).with_name("manifest.json")


class ManifestError(Exception):
    """The manifest can't be used; the message lists every reason with its place."""


def inside(path: str) -> str:
    """Refuse paths that lead out of the folder they are relative to."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError("must be a relative path without '..'")
    return path


Inside = Annotated[str, AfterValidator(inside)]


class Strict(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Health(Strict):
    """How to tell that the application is well."""

    path: str = Field(pattern=r"^/")
    timeout_seconds: float = Field(gt=0, le=60)


class Manifest(Strict):
    """One application and how to run it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    source: Inside
    """The folder of its files, beside the manifest."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the archive that packing ``source`` gives: what was reviewed is what is deployed."""
    main: Inside
    """The Python file that serves."""
    environment: dict[str, str] = {}
    health: Health


def load(path: Path = MANIFEST) -> Manifest:
    """Read and check a manifest.

    Raises ManifestError."""
    try:
        return Manifest.model_validate(json.loads(path.read_text()))
    except OSError as exc:
        raise ManifestError(f"{path}: can't be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise ManifestError("\n".join(f"{path}: {reason}" for reason in reasons(exc))) from exc


def reasons(exc: ValueError) -> list[str]:
    """Each mistake on a line of its own."""
    match exc:
        case ValidationError():
            return [
                f"{'.'.join(map(str, error['loc'])) or 'manifest'}: {error['msg']}"
                for error in exc.errors()
            ]
        case json.JSONDecodeError():
            return [f"line {exc.lineno}, column {exc.colno}: not JSON: {exc.msg}"]
        case _:
            return [str(exc)]
