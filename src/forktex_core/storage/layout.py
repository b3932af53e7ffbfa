# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where things go, decided once: a bucket and a prefix for each purpose and tenant."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .access import PublicAccess
from .keys import normalize_key


@dataclass(frozen=True, slots=True)
class Area:
    """Where one purpose has its objects.

    ``prefix`` may hold placeholders (``invoices/{tenant}``), each a whole path segment; ``bucket``
    None is the client's own; ``access`` is what everybody may do there without a signature.
    """

    purpose: str
    prefix: str
    bucket: str | None = None
    access: PublicAccess = PublicAccess.none

    def __post_init__(self) -> None:
        if "{" in self.prefix.partition("/")[0]:
            raise ValueError(
                f"The prefix of area {self.purpose!r} must begin with a fixed segment."
            )
        for segment in self.prefix.strip("/").split("/"):
            self._check_segment(segment)

    def _check_segment(self, segment: str) -> None:
        names = [name for _, name, _, _ in string.Formatter().parse(segment) if name is not None]
        if names and (segment != f"{{{names[0]}}}" or not names[0].isidentifier()):
            raise ValueError(
                f"In the prefix of area {self.purpose!r}, {segment!r} must be a whole placeholder."
            )
        if not names:
            normalize_key(segment)

    @property
    def fixed(self) -> str:
        """The prefix up to the first placeholder, with its slash: what a policy is about."""
        return self.prefix.strip("/").partition("{")[0].rstrip("/") + "/"

    def fill(self, values: Mapping[str, object]) -> str:
        """Return the prefix of these values, with a slash at its end."""
        parts = self.prefix.strip("/").split("/")
        wanted = {part[1:-1] for part in parts if part.startswith("{")}
        if wanted != set(values):
            raise ValueError(
                f"Area {self.purpose!r} needs {', '.join(sorted(wanted)) or 'no values'}, "
                f"and got {', '.join(sorted(values)) or 'none'}."
            )
        return "".join(f"{self._segment(values, part)}/" for part in parts)

    @staticmethod
    def _segment(values: Mapping[str, object], part: str) -> str:
        if not part.startswith("{"):
            return part
        value = str(values[part[1:-1]])
        if "/" in value:
            raise ValueError(f"The value of {part} is one path segment, and {value!r} has a slash.")
        return normalize_key(value)


class Layout:
    """All areas of a service. Public and private areas of one bucket must not lie inside each
    other.
    """

    def __init__(self, *areas: Area) -> None:
        by_purpose = {area.purpose: area for area in areas}
        if len(by_purpose) != len(areas):
            raise ValueError("Two areas of a layout have the same purpose.")
        self.areas: Mapping[str, Area] = MappingProxyType(by_purpose)
        self.check_apart(None)

    def check_apart(self, own: str | None) -> None:
        """Raise a ValueError if public and private areas mix, ``own`` being the client's bucket."""
        for area in self.areas.values():
            for other in self.areas.values():
                if (area.bucket or own) == (other.bucket or own):
                    _check_apart(area, other)

    def area(self, purpose: str) -> Area:
        """Return the area of a purpose; a KeyError names those that there are."""
        try:
            return self.areas[purpose]
        except KeyError:
            known = ", ".join(sorted(self.areas)) or "none"
            raise KeyError(f"The layout has no area {purpose!r}; it has {known}.") from None


def _check_apart(area: Area, other: Area) -> None:
    if area.access is not other.access and other.fixed.startswith(area.fixed):
        raise ValueError(
            f"Area {other.purpose!r} ({other.access}) lies inside "
            f"of {area.purpose!r} ({area.access}): "
            "a policy on the outer prefix would cover it; keep public and private apart."
        )
