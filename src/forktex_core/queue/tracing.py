# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""OpenTelemetry from the enqueueing to the run, when opentelemetry-api is installed.

The message carries the W3C traceparent of the span in which the job was enqueued; the run is a span
of kind consumer
below it. Without a tracer provider of the host's, OpenTelemetry's own no-op does nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Self

from forktex_core.queue.errors import ConfigurationError
from forktex_core.queue.message import TRACE, Message


class Tracing:
    """Carries trace contexts, and makes a span of each run; ``provider``: None, the host's global
    one."""

    def __init__(self, provider: Any = None) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._api: Any = trace
        self._provider = provider
        self._carry: Any = TraceContextTextMapPropagator()

    @classmethod
    def when(cls, wanted: bool | None) -> Self | None:
        """Tracing, or None when it isn't wanted; ``wanted=None`` means: when it is installed."""
        installed = is_installed()
        if wanted and not installed:
            raise ConfigurationError(
                "tracing=True needs opentelemetry-api: pip install 'forktex-core[otel]'"
            )
        return cls() if installed and wanted is not False else None

    def current(self) -> str | None:
        """The traceparent of the current span, if there is one."""
        carrier: dict[str, str] = {}
        self._carry.inject(carrier)
        return carrier.get("traceparent")

    @contextmanager
    def run(self, queue: str, message: Message) -> Iterator[None]:
        """The span of one run."""
        parent = self._carry.extract({"traceparent": message.options.get(TRACE, "")})
        attributes = {
            "messaging.system": "forktex",
            "messaging.destination.name": queue,
            "messaging.message.id": message.id,
        }
        tracer = self._api.get_tracer("forktex_core.queue", tracer_provider=self._provider)
        kind = self._api.SpanKind.CONSUMER
        with tracer.start_as_current_span(
            f"run {message.name}", context=parent, kind=kind, attributes=attributes
        ):
            yield


def is_installed() -> bool:
    """Whether there is an OpenTelemetry to use."""
    try:
        return find_spec("opentelemetry") is not None
    except ValueError:  # somebody put something else in its place
        return False
