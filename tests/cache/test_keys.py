# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Keys: namespaces, arguments, templates."""

import dataclasses
import datetime as dt
import decimal
import enum
import fnmatch
import uuid

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.cache import CacheConfigurationError, CacheKeyError, Namespace, cached
from forktex_core.cache.arguments import stable_text

PARTS = st.lists(st.text(max_size=200) | st.binary(max_size=20), max_size=4)


def as_bytes(parts: list[str | bytes]) -> list[bytes]:
    """The texts that parts count as."""
    return [p if isinstance(p, bytes) else p.encode(errors="surrogatepass") for p in parts]


@given(PARTS, PARTS)
def test_keys_of_a_namespace_never_collide(
    first: list[str | bytes], second: list[str | bytes]
) -> None:
    """Two sequences of parts have one key exactly when their texts are the same."""
    space = Namespace("user.profile")
    same = as_bytes(first) == as_bytes(second)
    assert (space.key(*first) == space.key(*second)) == same


def test_a_separator_inside_a_part_is_escaped() -> None:
    """Moving a colon from one part into the next gives another key, and reads as expected."""
    space = Namespace("user.profile")
    assert space.key("a:b", "c") == "user.profile::a%3Ab:c"
    assert space.key("a", "b:c") == "user.profile::a:b%3Ac"
    assert space.key(42) == "user.profile::42"
    assert space.key() != space.key("")


SEGMENT = st.text(min_size=1, max_size=8)


@given(st.lists(SEGMENT, max_size=3), PARTS, st.lists(SEGMENT, max_size=3), PARTS)
def test_nested_namespaces_never_meet_keys(
    path: list[str], parts: list[str | bytes], other_path: list[str], other: list[str | bytes]
) -> None:
    """A child's keys are never those of its parent with more parts."""

    def key(segments: list[str], rest: list[str | bytes]) -> str:
        space = Namespace("n")
        return (space.child(*segments) if segments else space).key(*rest)

    same = path == other_path and as_bytes(parts) == as_bytes(other)
    assert (key(path, parts) == key(other_path, other)) == same


@given(st.lists(SEGMENT, min_size=1, max_size=3))
def test_a_hash_tag_covers_the_namespace_and_its_children(parts: list[str]) -> None:
    """All keys below a tagged namespace have its path as their one hash tag."""
    space = Namespace("cart", hash_tag=True)
    for key in (space.key(*parts), space.child(*parts).key(*parts), space.key()):
        assert key.startswith("{cart}")
        assert key.count("{") == key.count("}") == 1
    assert "{" not in Namespace("cart").key(*parts)
    assert Namespace("cart").child(42, hash_tag=True).key("x") == "{cart:42}::x"


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_pattern_matches_only_what_was_meant(part: str, other: str) -> None:
    """Glob characters in a part match themselves: the pattern of one part takes no other's keys."""
    space = Namespace("ns")
    matches = fnmatch.fnmatchcase(space.key(other, "x"), space.pattern(part, ...))
    assert matches == (part.encode(errors="surrogatepass") == other.encode(errors="surrogatepass"))
    assert fnmatch.fnmatchcase(space.child("c").key(part), space.pattern())


def test_versions_leave_older_keys_behind() -> None:
    """A version is part of the path, and equal namespaces are equal."""
    assert Namespace("a", version=2).key(1) == "a@2::1"
    assert Namespace("a").child("b", version=3).path == "a:b@3"
    assert Namespace("a:b") == Namespace("a").child("b")
    assert len({Namespace("a"), Namespace("a"), Namespace("a", hash_tag=True)}) == 2


@pytest.mark.parametrize("name", ["", "a b", "a::b", ":a", "a:", "{a}", "a*", "a@2"])
def test_a_name_that_is_no_path_is_refused(name: str) -> None:
    """A name with other characters or empty segments is an error that shows it."""
    with pytest.raises(CacheKeyError, match="not a path"):
        Namespace(name)


@pytest.mark.parametrize("part", [None, True, 1.5, ["x"], object()])
def test_a_part_without_one_text_is_refused(part: object) -> None:
    """None, booleans, floats and objects can't be parts: everybody would share a key."""
    with pytest.raises(CacheKeyError, match="can't be part of a key"):
        Namespace("a").key(part)  # type: ignore[arg-type]


def test_versions_and_segments_are_checked() -> None:
    """A version below 1 and an empty segment are errors."""
    with pytest.raises(CacheKeyError, match="start at 1"):
        Namespace("a", version=0)
    with pytest.raises(CacheKeyError, match="can't be empty"):
        Namespace("a").child("")


def test_hostile_parts_make_short_printable_keys() -> None:
    """Newlines, binary and a megabyte become a short text without spaces or control characters."""
    for part in ("\r\nFLUSHALL\r\n", b"\x00\xff" * 500, "x" * 1_000_000, "*?[{}]"):
        key = Namespace("n").key(part)
        assert len(key) < 150
        assert key.isprintable()
        assert not set(key) & set(" *?[]{}\r\n")


class Colour(enum.Enum):
    RED = 1
    ALSO_ONE = 1.0


@dataclasses.dataclass
class Point:
    x: int
    y: object


class Model(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    x: int


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.builds(Point, st.integers(), inner)
    ),
    max_leaves=6,
)


def typed(value: object) -> object:
    """A value in which 1, 1.0 and True, or a list and a tuple, aren't equal."""
    if isinstance(value, dict):
        return ("dict", frozenset((typed(k), typed(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value), tuple(map(typed, value)))
    if isinstance(value, Point):
        return (Point, typed(value.x), typed(value.y))
    return (type(value), repr(value))


@given(VALUES, VALUES)
def test_arguments_have_one_text_each(first: object, second: object) -> None:
    """Two argument values share a text exactly when they are of one type and equal."""
    assert (stable_text(first) == stable_text(second)) == (typed(first) == typed(second))


def test_unordered_arguments_have_an_order() -> None:
    """Sets and dictionaries give one text whatever their order."""
    assert stable_text({"a": 1, "b": 2}) == stable_text({"b": 2, "a": 1})
    assert stable_text({3, 1, 2}) == stable_text({2, 3, 1})
    assert stable_text({"b", "a"}) == stable_text(frozenset({"a", "b"}))


def test_models_and_members_are_told_apart() -> None:
    """Models count by class and fields, members by class and name, classes by name."""
    assert stable_text(Model(x=1)) == stable_text(Model(x=1))
    assert stable_text(Model(x=1)) != stable_text(Model.model_validate({"x": 1, "y": 2}))
    assert stable_text(Colour.RED) != stable_text(1)
    assert stable_text(Point) != stable_text(Model)


class Tenant:
    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name


class Opaque:
    pass


def test_positional_keyword_and_defaulted_calls_share_a_key() -> None:
    """However a call is written, its key is that of its bound arguments."""

    @cached(namespace="user:profile")
    async def get(user_id: str, limit: int = 10, *, deep: bool = False) -> None: ...

    one = get.key("u", 10, deep=False)
    assert one == get.key("u") == get.key(user_id="u") == get.key(limit=10, user_id="u")
    assert one != get.key("u", 11)
    assert one == "user:profile:get::{u:=i10:=f}"
    with pytest.raises(TypeError, match="user_id"):
        get.key()  # type: ignore[call-arg]


def test_variadic_arguments_count() -> None:
    """What goes into *args and **kwargs is part of the key; keyword order is not."""

    @cached()
    async def get(*ids: int, **options: str) -> None: ...

    assert get.key(1, 2) != get.key(12)
    assert get.key(a="1", b="2") == get.key(b="2", a="1")


def test_templates_and_functions_make_keys() -> None:
    """A template takes attributes, a function any parts, and both escape what they are given."""

    @cached(namespace="n", key="{point.x}:{user}")
    async def by_template(point: Point, user: str) -> None: ...

    @cached(namespace="n", key=lambda point, user: (user, point.x))
    async def by_function(point: Point, user: str) -> None: ...

    assert by_template.key(Point(1, 2), "a:b") == "n:by_template::{=i1:a%3Ab}"
    assert by_function.key(Point(1, 2), "a") == "n:by_function::{a:1}"


def test_a_template_that_names_no_parameter_is_refused() -> None:
    """Unknown names, formats and broken braces are errors when the function is decorated."""
    for template in ("{nobody}", "{user!r}", "{user:>5}", "{user", "{}"):
        with pytest.raises(CacheKeyError, match="template"):

            @cached(key=template)
            async def get(user: str) -> None: ...


def test_an_argument_without_a_stable_key_is_refused_at_decoration() -> None:
    """A parameter annotated with an opaque class is an error that says how to mend it."""
    with pytest.raises(CacheKeyError, match=r"'session'.*exclude=\('session',\)"):

        @cached()
        async def get(session: Opaque, user_id: str) -> None: ...

    @cached(exclude=("session",))
    async def fine(session: Opaque, user_id: str) -> None: ...

    assert fine.key(Opaque(), "u") == fine.key(Opaque(), "u")


def test_an_argument_without_a_stable_key_is_refused_at_the_call() -> None:
    """What the annotation doesn't show is an error at the call, and so is a value within itself."""

    @cached()
    async def get(value: object) -> None: ...

    loop: list[object] = []
    loop.append(loop)
    for value in (Opaque(), {"deep": [Opaque()]}, loop):
        with pytest.raises(CacheKeyError, match="value"):
            get.key(value)


def test_excluding_a_parameter_that_is_not_there_is_refused() -> None:
    """A misspelt parameter is an error that lists the real ones."""
    with pytest.raises(CacheKeyError, match=r"no parameter sesion.*session"):

        @cached(exclude=("sesion",))
        async def get(session: object) -> None: ...


def test_instances_count_by_their_cache_key() -> None:
    """A method's instance is part of the key; an instance without a key is refused."""

    class Repository(Tenant):
        @cached(namespace="r")
        async def get(self, user_id: int) -> None: ...

    assert Repository("a").get.key(1) == Repository("a").get.key(1)
    assert Repository("a").get.key(1) != Repository("b").get.key(1)

    class Plain:
        @cached(namespace="r")
        async def get(self, user_id: int) -> None: ...

        @cached(namespace="r", exclude=("self",))
        async def shared(self, user_id: int) -> None: ...

    with pytest.raises(CacheKeyError, match=r"'self'.*exclude=\('self',\).*__cache_key__"):
        Plain().get.key(1)
    assert Plain().shared.key(1) == Plain().shared.key(1)


def test_tags_that_are_one_string_are_refused() -> None:
    """A forgotten comma would make a tag of every letter."""
    with pytest.raises(CacheConfigurationError, match="comma"):

        @cached(tags="users")
        async def get() -> None: ...


def test_types_with_several_texts_stay_distinct() -> None:
    """Decimals, times and paths keep what their equality would drop."""
    assert stable_text(decimal.Decimal("1.0")) != stable_text(decimal.Decimal("1.00"))
    utc = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert stable_text(utc) != stable_text(utc.replace(tzinfo=None))
    assert stable_text(uuid.UUID(int=1)) != stable_text(str(uuid.UUID(int=1)))
