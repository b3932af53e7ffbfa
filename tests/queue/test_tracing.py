# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""OpenTelemetry: the context goes from the enqueueing to the run."""

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from forktex_core.queue import ConfigurationError, Queue
from forktex_core.queue.testing import drain
from forktex_core.queue.tracing import Tracing


@pytest.fixture
def spans():
    """What a host's provider exports, and its tracer."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter, provider
    provider.shutdown()


@pytest.fixture
async def traced(redis_url, spans):
    """A queue that traces to the host's provider."""
    async with Queue(redis_url, "traced", tracing=True) as queue:
        queue.tracing = Tracing(spans[1])
        yield queue


async def test_run_is_a_child_of_the_request(traced, spans):
    """The run is a consumer's span below the one that was current at the enqueueing, however the
    job was enqueued; its attributes name queue and job."""
    exporter, provider = spans

    @traced.job
    async def note(number: int) -> None: ...

    with provider.get_tracer("test").start_as_current_span("request") as request:
        jobs = [await note.enqueue(1)]
        jobs += await traced.enqueue_many([note.call(2)])
        jobs += (await traced.batch([note.call(3)], then=note.call(4))).jobs
    await drain(traced)
    runs = [span for span in exporter.get_finished_spans() if span.name == "run note"]
    assert len(runs) == 4
    for run in runs:
        assert run.kind is SpanKind.CONSUMER
        assert run.parent.span_id == request.get_span_context().span_id
        assert run.context.trace_id == request.get_span_context().trace_id
        assert run.attributes["messaging.destination.name"] == "traced"
    assert {job.id for job in jobs} <= {run.attributes["messaging.message.id"] for run in runs}


async def test_context_outlives_a_retry_and_a_failure_is_seen(traced, spans):
    """Each attempt is a span of the same trace, and a failing one says so."""
    exporter, provider = spans

    @traced.job(retries=0)
    async def fail() -> None:
        raise ValueError("broken")

    with provider.get_tracer("test").start_as_current_span("request") as request:
        await fail.enqueue()
    await drain(traced)
    assert await traced.requeue() == 1
    await drain(traced)
    runs = [span for span in exporter.get_finished_spans() if span.name == "run fail"]
    assert [run.status.status_code for run in runs] == [StatusCode.ERROR] * 2
    assert {run.context.trace_id for run in runs} == {request.get_span_context().trace_id}


async def test_context_goes_through_the_outbox(traced, spans, database):
    """A job of a transaction keeps the context in which it was enqueued."""
    exporter, provider = spans
    engine = create_async_engine(database.url)
    traced.outbox = engine
    await traced.create_outbox()

    @traced.job
    async def note() -> None: ...

    async with AsyncSession(engine) as session:
        with provider.get_tracer("test").start_as_current_span("request") as request:
            await note.options(session=session).enqueue()
        await session.commit()
    await traced.relay()
    await drain(traced)
    (run,) = [span for span in exporter.get_finished_spans() if span.name == "run note"]
    assert run.parent.span_id == request.get_span_context().span_id
    await engine.dispose()


async def test_no_trace_without_a_request(traced, spans):
    """Without a current span a run is the root of its own trace."""
    exporter, _ = spans

    @traced.job
    async def note() -> None: ...

    await note.enqueue()
    await drain(traced)
    (run,) = exporter.get_finished_spans()
    assert run.parent is None


def test_tracing_that_is_not_installed(monkeypatch):
    """``tracing=True`` without OpenTelemetry says what to install; None does without."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"forktex-core\[otel\]"):
        Queue(tracing=True)
    assert Queue().tracing is None
