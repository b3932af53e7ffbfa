# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Bad input: one clear error at the caller, and nothing half-written."""

from datetime import datetime
from uuid import uuid4

import pytest

from forktex_core.flow import (
    DatabaseUnavailableError,
    DefinitionError,
    Flow,
    FlowNotOpenError,
    PayloadError,
    PayloadTooLargeError,
    Retry,
    RunFailed,
    RunFinishedError,
    RunNotFoundError,
    UnknownWorkflowError,
    WorkerSettings,
)


async def test_start_refuses_what_cannot_run(flow: Flow, sql) -> None:
    """Each wrong start names the thing, and no run is written."""

    @flow.workflow(name="typed")
    async def typed(ctx, n: int) -> int:
        return n

    @flow.workflow(name="untyped")
    async def untyped(ctx, value) -> None: ...

    @flow.workflow(name="bare")
    async def bare(ctx) -> None: ...

    with pytest.raises(FlowNotOpenError, match="async with flow"):
        await flow.start("typed", 1)
    async with flow:
        with pytest.raises(
            UnknownWorkflowError, match="no workflow 'tpyed': registered here: bare@1, typed@1"
        ):
            await flow.start("tpyed", 1)
        with pytest.raises(UnknownWorkflowError, match="version 7 of workflow 'typed'"):
            await flow.start("typed", 1, version=7)
        with pytest.raises(PayloadError, match="the input of 'typed' doesn't fit int"):
            await flow.start("typed", "many")
        with pytest.raises(PayloadError, match=r"can't be carried as JSON.*datetime"):
            await flow.start("untyped", {"at": datetime(2026, 1, 1)})  # noqa: DTZ001
        with pytest.raises(PayloadError, match=r"key at /a\[1\]"):
            await flow.start("untyped", {"a": {1: 2}})
        with pytest.raises(PayloadError, match="JSON"):
            await flow.start("untyped", float("nan"))
        with pytest.raises(PayloadError, match="surrogate"):
            await flow.start("untyped", "\ud800")
        with pytest.raises(PayloadTooLargeError, match="max_payload_bytes"):
            await flow.start("untyped", "x" * 3_000_000)
        with pytest.raises(DefinitionError, match="takes no input"):
            await flow.start("bare", 1)
        with pytest.raises(ValueError, match="not both"):
            await flow.start("bare", delay=1, at=datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="no time zone"):
            await flow.start("bare", at=datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="priority must lie"):
            await flow.start("bare", priority=99999)
        with pytest.raises(PayloadError, match="the input of 'typed'"):
            await flow.start_many("typed", [1, 2, "x"])
        with pytest.raises(RunNotFoundError):
            await flow.result(uuid4())
        with pytest.raises(RunNotFoundError):
            await flow.send_signal(uuid4(), "go")
        with pytest.raises(ValueError, match="a run id is a UUID, not 'nonsense'"):
            await flow.result("nonsense")
    assert await sql.fetchval("SELECT count(*) FROM run") == 0


async def test_output_that_cannot_be_stored_fails_the_run(flow: Flow, serving) -> None:
    """A result too large, or not what the annotation promises, is the run's failure."""

    @flow.workflow()
    async def huge(ctx) -> str:
        return "x" * 3_000_000

    @flow.workflow()
    async def liar(ctx) -> int:
        return "seven"

    async with serving(flow):
        with pytest.raises(RunFailed, match="the limit is 2,097,152"):
            await flow.run("huge", timeout=10)
        with pytest.raises(RunFailed, match="'str', not what int promises"):
            await flow.run("liar", timeout=10)
        run_id = await flow.start("liar")
        with pytest.raises(RunFailed):
            await flow.result(run_id, timeout=10)
        with pytest.raises(RunFinishedError, match="has failed: it takes no signal 'go'"):
            await flow.send_signal(run_id, "go")


async def test_database_that_is_not_there() -> None:
    """The error names the address, without the password."""
    flow = Flow("postgresql://me:secret@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailableError, match=r"127\.0\.0\.1:1/none") as caught:
        await flow.open()
    assert "secret" not in str(caught.value)
    await flow.close()
    with pytest.raises(ValueError, match="postgresql://"):
        Flow("mysql://localhost/x")


async def test_definitions_that_are_not_fit(flow: Flow) -> None:
    """Registration refuses what could not run, and says how it must look."""
    with pytest.raises(DefinitionError, match="async def"):
        flow.workflow(name="w")(lambda ctx: None)
    with pytest.raises(DefinitionError, match="positive integer"):

        @flow.workflow(name="w", version=0)
        async def zero(ctx) -> None: ...

    with pytest.raises(DefinitionError, match=r"must take \(ctx\) or \(ctx, input\)"):

        @flow.workflow(name="w")
        async def three(ctx, a, b) -> None: ...

    @flow.workflow(name="twice")
    async def once(ctx) -> None: ...

    with pytest.raises(DefinitionError, match="registered already: give the new body version=2"):
        flow.workflow(name="twice")(once.fn)
    with pytest.raises(DefinitionError, match="printable"):
        flow.workflow(name="a\nb")(once.fn)
    with pytest.raises(DefinitionError, match="can't be resolved"):

        @flow.workflow(name="w")
        async def unresolved(ctx, a: "Nowhere") -> None: ...  # noqa: F821

    @flow.step
    async def step(ctx) -> None: ...

    with pytest.raises(DefinitionError, match="takes the context of the workflow"):
        await step("not a context")
    with pytest.raises(DefinitionError, match="a step must be a function"):
        flow.step(7)
    with pytest.raises(ValueError, match="max_attempts"):
        Retry(max_attempts=0)
    with pytest.raises(ValueError, match="concurrency must be at least 1"):
        WorkerSettings(concurrency=0)
    with pytest.raises(ValueError, match="queues"):
        WorkerSettings(queues=())


async def test_worker_without_workflows_is_refused(flow: Flow) -> None:
    """A worker that could do nothing says so."""
    async with flow:
        with pytest.raises(DefinitionError, match="no workflow to serve"):
            await flow.run_worker()


async def test_result_times_out(flow: Flow) -> None:
    """Waiting ends after the time given; the run is untouched."""

    @flow.workflow()
    async def nobody(ctx) -> None: ...

    async with flow:
        run_id = await flow.start("nobody")
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.05 s; it goes on"):
            await flow.result(run_id, timeout=0.05)


async def test_unclosed_flow_warns(flow: Flow, postgres, schema: str) -> None:
    """A Flow that is dropped open says so."""
    other = Flow(postgres.url, schema=schema)
    await other.open()
    opened = other._opened
    with pytest.warns(ResourceWarning, match="was not closed"):
        other.__del__()
    await other.close()
    assert opened is not None
