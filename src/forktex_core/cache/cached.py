# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`cached`: functions whose values are kept on the server."""

import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Concatenate, Protocol, cast, get_type_hints, overload

from .client import CacheClient
from .codec import Codec, codec_for
from .duration import Seconds, seconds
from .errors import CacheConfigurationError
from .invoke import call
from .keying import Keying, TagSource
from .loader import Load, Policy
from .namespace import Namespace
from .registry import client_named
from .tags import TAGS, tag_key


class CachedFunction[**P, R]:
    """A function behind the cache, to be called like the function; `cached` makes these.

    Attributes:
        namespace: where its entries are: ``delete_pattern(f.namespace.pattern())`` deletes them.
    """

    def __init__(
        self,
        function: Callable[P, Any],
        namespace: Namespace,
        keying: Keying,
        policy: Policy,
        client: str | CacheClient,
        *,
        binding: type | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        inspect.markcoroutinefunction(self)
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise CacheConfigurationError(f"{keying.name} is a generator: only values can be kept")
        self.namespace = namespace
        self._function = function
        self._keying = keying
        self._policy = policy
        self._client = client
        self._binding = binding  # classmethod or staticmethod, when it was one
        self._codec: Codec[R] | None = None
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError:  # it names what is defined later: read at the first call
            return
        keying.refuse_unstable(hints)
        self._codec = self._codec_of(hints)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of a call, without the client's prefix.

        Raises:
            CacheKeyError: an argument has no stable text.
        """
        return self._keying.key(args, kwargs)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's value, from the cache or computed.

        Raises:
            CacheNotInitialisedError: the client isn't open.
            CacheKeyError: an argument has no stable text.
            CacheUnavailableError: Redis is down and neither function nor client fails open.
            CacheValueError: the value can't be stored.
            Exception: whatever the function raised.
        """
        if self._policy.local:
            kept = self._kept(self._keying.key(args, kwargs))
            if kept is not None:
                return kept[0]
        return await self._load(args, kwargs).run()

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute and store the value now, whatever is stored; raises what a call raises."""
        return await self._load(args, kwargs).refresh()

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the value of these arguments everywhere, also one being computed right now.

        Raises:
            CacheUnavailableError: Redis didn't answer: the old value may still be there.
        """
        await self._load(args, kwargs).invalidate()

    async def bypass(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; the cache is neither read nor written."""
        return cast("R", await call(self._function, *args, **kwargs))

    @overload
    def __get__(self, instance: None, owner: type) -> "CachedFunction[P, R]": ...
    @overload
    def __get__[**Q, T](
        self: "CachedFunction[Concatenate[T, Q], R]", instance: T, owner: type
    ) -> "BoundCachedFunction[Q, R]": ...
    def __get__(self, instance: object, owner: type) -> Any:
        """The method of an instance, or of a class when the function is a class method."""
        if self._binding is classmethod:
            return BoundCachedFunction(self, owner)
        if self._binding is staticmethod or instance is None:
            return self
        return BoundCachedFunction(self, instance)

    def _kept(self, key: str) -> tuple[R] | None:
        """A plainly fresh value of the local tier, on the shortest way there is."""
        client = client_named(self._client)
        now = time.monotonic()
        found = client.local.get(client.key(key), now)
        if found is None or self._codec is None or self._policy.early_refresh:
            return None
        entry, left = found
        if left <= entry.grace:
            return None
        if client.settings.hook is not None:
            client.report("local_hit", self._keying.path, now)
        return (self._codec.decode(self._keying.path, entry.payload),)

    def _load(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Load[R]:
        client = client_named(self._client)
        keying = self._keying
        key = client.key(keying.key(args, kwargs))
        tags: tuple[str, ...] = ()
        if keying.tags is not None:
            tags = tuple(client.key(tag_key(tag)) for tag in keying.tags(args, kwargs))
        if self._policy.local:
            client.tracker.watch(client.key(f"{keying.path}::"))
            if tags:
                client.tracker.watch(client.key(TAGS))
        codec = self._codec or self._late_codec()
        compute = functools.partial(self.bypass, *args, **kwargs)
        return Load(client, keying.path, key, tags, codec, self._policy, compute)

    def _late_codec(self) -> Codec[R]:
        hints = get_type_hints(self._function, include_extras=True)
        self._codec = codec = self._codec_of(hints)
        return codec

    def _codec_of(self, hints: dict[str, Any]) -> Codec[R]:
        kind = hints.get("return", Any)
        try:
            return codec_for(kind)
        except Exception as exc:  # pydantic's schema errors have no common root
            name = self._keying.name
            raise CacheConfigurationError(f"{name}: no JSON for {kind!r}: {exc}") from exc


class BoundCachedFunction[**P, R]:
    """A cached method of one instance or class; each method does what `CachedFunction`'s does."""

    __slots__ = ("__self__", "_cached")

    def __init__(self, cached_function: CachedFunction[..., R], instance: object) -> None:
        self._cached = cached_function
        self.__self__ = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """Call the method, through the cache."""
        return self._cached(self.__self__, *args, **kwargs)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of a call."""
        return self._cached.key(self.__self__, *args, **kwargs)

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute and store the value now."""
        return await self._cached.refresh(self.__self__, *args, **kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the value of these arguments."""
        await self._cached.invalidate(self.__self__, *args, **kwargs)

    async def bypass(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the method itself."""
        return await self._cached.bypass(self.__self__, *args, **kwargs)


class CachedDecorator(Protocol):
    """What `cached` returns: give it the function."""

    @overload
    def __call__[T, **P, R](
        self, function: "classmethod[T, P, Coroutine[Any, Any, R]]", /
    ) -> BoundCachedFunction[P, R]: ...
    @overload
    def __call__[**P, R](self, function: Callable[P, Awaitable[R]], /) -> CachedFunction[P, R]: ...
    @overload
    def __call__[**P, R](self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...


def cached(
    *,
    ttl: Seconds = 300,
    namespace: str | Namespace | None = None,
    key: str | Callable[..., Any] | None = None,
    exclude: Iterable[str] = (),
    version: int = 1,
    tags: TagSource = (),
    jitter: float = 0.0,
    cache_none: bool = True,
    condition: Callable[[Any], object] | None = None,
    stale_while_revalidate: Seconds = 0,
    stale_if_error: Seconds = 0,
    early_refresh: float = 0.0,
    local: bool = False,
    lease: Seconds = 10,
    wait: Seconds = 30,
    max_bytes: int = 1024 * 1024,
    fail_open: bool | None = None,
    client: str | CacheClient = "default",
) -> CachedDecorator:
    """Keep a function's values, for an ``async def``, a ``def`` (run in a thread) or a method.

    Of a class method or a static method, ``@cached`` stands above ``@classmethod``.

    One caller in the fleet computes a value; the others wait for it, or get the stale one. Values
    travel as JSON and come back as the return annotation says; without one, only what JSON itself
    has can be kept. A caller always gets a value of its own, decoded from JSON.

    Args:
        ttl: how long a value is fresh; seconds, as are all times, or a `timedelta`.
        namespace: where the keys are; the function's module by default. The function's name is part
            of the key beneath it, so functions of one namespace don't meet.
        key: what identifies a call, instead of all its arguments: a template over the parameters
            (``"{user.id}:{day}"``) or a function of the same arguments that returns a key part or a
            tuple of them.
        exclude: parameters that don't count (a session, a logger). A method's ``self`` counts
            unless it is named here; a class makes its instances countable by ``__cache_key__``.
        version: bump it when the value's shape or meaning changes.
        tags: tags of each value, for `invalidate_tags`: templates over the parameters, or a
            function of the arguments.
        jitter: shorten each lifetime by a random share up to this, so that values stored together
            don't expire together.
        cache_none: whether `None` is kept.
        condition: is given the value; keep it only if true.
        stale_while_revalidate: how long after `ttl` the old value is still served while it is
            computed in the background.
        stale_if_error: how long after `ttl` the old value is served if computing fails.
        early_refresh: eagerness of the probabilistic early refresh (XFetch: Vattani, Chierichetti,
            Lowenstein, PVLDB 8(8), 2015), in the background; 1 is the paper's optimum, 0 is off.
        local: keep values in this process, too, until the server says that they changed.
        lease: how long the right to compute outlives a process that dies; it is renewed while one
            computes.
        wait: how long to wait for another process before computing oneself.
        max_bytes: how large a value's JSON may be.
        fail_open: compute when Redis is down; the client's setting by default.
        client: the name of the client, or a client.

    Raises:
        CacheConfigurationError: an option can't work, or the return type has no JSON.
        CacheKeyError: an unknown parameter is named, or one is annotated with a class that has no
            stable text.
    """
    policy = Policy(
        ttl=seconds(ttl),
        jitter=jitter,
        stale_while_revalidate=seconds(stale_while_revalidate),
        stale_if_error=seconds(stale_if_error),
        early_refresh=early_refresh,
        cache_none=cache_none,
        condition=condition,
        local=local,
        lease=seconds(lease),
        wait=seconds(wait),
        max_bytes=max_bytes,
        fail_open=fail_open,
    )

    def decorate(function: Any) -> CachedFunction[..., Any]:
        binding = None
        if isinstance(function, classmethod | staticmethod):
            binding, function = type(function), function.__func__
        space = namespace if namespace is not None else function.__module__
        if not isinstance(space, Namespace):
            space = Namespace(space, version=version)
        elif version != 1:
            raise CacheConfigurationError(
                f"{function.__qualname__}: give the version to the Namespace, not beside it"
            )
        keying = Keying(function, space, key, exclude, tags)
        return CachedFunction(function, space, keying, policy, client, binding=binding)

    return cast("CachedDecorator", decorate)
