# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A call's arguments: by place and by name, as Python binds them, through JSON and back."""

import pytest

from forktex_core.queue import WrongArgumentsError
from forktex_core.queue.arguments import Arguments


def plain(first: int, second: str = "x", *, third: bool = False) -> None: ...


def early(first: int, /, second: int = 2) -> None: ...


def many(first: int, *rest: int, **named: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (1,), {}),
        (plain, (1, "y"), {}),
        (plain, (1,), {"third": True}),
        (plain, (1,), {"second": "y"}),
        (plain, (), {"third": True, "first": 1}),
        (early, (1,), {}),
        (early, (1, 3), {}),
        (early, (1,), {"second": 3}),
        (many, (1,), {}),
        (many, (1, 2, 3), {"a": "b"}),
    ],
)
def test_calls_come_back(function, args, kwargs):
    """What the function would be given by the call, it is given by the worker."""
    codec = Arguments("job", function)
    given = codec.signature.bind(*args, **kwargs)
    back = codec.decode(codec.encode(args, kwargs))
    assert codec.signature.bind(*back[0], **back[1]).arguments == given.arguments


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "named"),
    [
        (plain, (), {}, "missing a required argument: 'first'"),
        (plain, (), {"second": "y"}, "missing a required argument: 'first'"),
        (plain, (1, "y", True), {}, "too many positional arguments"),
        (plain, (1,), {"first": 1}, "multiple values for argument 'first'"),
        (plain, (1,), {"fourth": 1}, "unexpected keyword argument 'fourth'"),
        (plain, (), {"first": 1, "fourth": 1}, "unexpected keyword argument 'fourth'"),
        (plain, ("1",), {}, "first: Input should be a valid integer"),
        (plain, (), {"first": 1, "third": 1}, "third: Input should be a valid boolean"),
        (plain, (1, "\ud800"), {}, "surrogates not allowed"),
        (early, (), {"first": 1}, "first"),
        (many, (1, "2"), {}, "rest"),
        (many, (1,), {"a": 2}, "named"),
    ],
)
def test_wrong_calls_say_what_is_wrong(function, args, kwargs, named):
    """A call that Python would refuse, or whose values don't fit, is refused with the place."""
    with pytest.raises(WrongArgumentsError, match="'job' can't take these arguments") as caught:
        Arguments("job", function).encode(args, kwargs)
    assert named in str(caught.value)
