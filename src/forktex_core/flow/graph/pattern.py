# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How large a regular expression of a condition is, written out.

The interpreter's regular expressions never go back, so their time is the text's length times their
size. But a repeat by number is a copy: ``((a{99}){99}){99}`` is a million states. So the size is
counted before the interpreter sees the expression. It errs on the safe side: whatever might be a
repeat counts as one.
"""

import re

from forktex_core.flow.errors import DefinitionError

MAX_SIZE = 200
_REPEAT = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}", re.ASCII)
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_HIDDEN = re.compile(r"\\[xXuU0-7]")


def pattern_size(literal: str) -> int:
    """Return the size of the regular expression in a CEL string literal.

    Raises:
        DefinitionError: it is larger than MAX_SIZE, or has characters written as numbers, behind
            which a repeat could hide.
    """
    raw = literal[: literal.find(literal[-1])].lower()
    if "r" not in raw and _HIDDEN.search(literal.replace("\\\\", "")):
        raise DefinitionError(
            f"the regular expression {literal!r:.60} has characters written as numbers: write them"
        )
    size = _size(literal) if len(literal) <= MAX_SIZE else len(literal)
    if size > MAX_SIZE:
        raise DefinitionError(
            f"the regular expression {literal!r:.60} is too large: it may have {MAX_SIZE} parts, "
            "those that are repeated by number counted as often"
        )
    return size


def _size(text: str) -> int:
    sizes, last, place = [0], 0, 0
    while place < len(text):
        here = text[place]
        repeat, group = _REPEAT.match(text, place), _CLASS.match(text, place)
        if repeat is not None:
            times = max(int(count[:9] or 1) for count in repeat.groups())
            sizes[-1] += last * max(0, times - 1)
            last *= max(1, times)
        elif here == "(":
            sizes.append(0)
        elif here == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif here not in "*?+":
            last = 1
            sizes[-1] += 1
        match = repeat or group
        place = match.end() if match else place + (2 if here == "\\" else 1)
    return sum(sizes)
