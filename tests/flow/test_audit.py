# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow audit`` as CI runs it: a real process in a folder with a service in it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from forktex_core.flow import Flow, ManifestError
from forktex_core.flow.audit import Body, Manifest, audit
from forktex_core.flow.inflight import Journals, replay_in_flight
from forktex_core.flow.replayer import Journal

PROGRAM = str(Path(sys.executable).with_name("forktex-flow"))
SERVICE = '''
from pathlib import Path
from forktex_core.flow import Flow

flow = Flow("postgresql://nobody@127.0.0.1:1/nothing", schema={schema!r})


@flow.step
async def charge(ctx, cents):
    Path("executed").touch()
    return cents


@flow.workflow(name="order", version=1)
async def order(ctx, cents: int) -> int:
    """What is done with an order."""
    paid = await charge(ctx, cents)
    await ctx.wait_signal("approved")
    return paid
'''

type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def service(tmp_path: Path, schema: str) -> Path:
    """The module of a service."""
    path = tmp_path / "shop.py"
    path.write_text(SERVICE.format(schema=schema))
    return path


@pytest.fixture
def run(tmp_path: Path, service: Path) -> Run:
    """Run ``forktex-flow`` in the service's folder; a traceback is never what it says."""

    def call(*args: object, command: str = "audit", entrypoint: str = "shop:flow"):
        done = subprocess.run(
            [PROGRAM, command, entrypoint, *map(str, args)],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    return call


def edit(path: Path, old: str, new: str) -> None:
    """Replace what stands in a file once."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_life_of_a_manifest(run: Run, service: Path) -> None:
    """Without a manifest nothing can be told; with one, only what replay notices is a change."""
    first = run()
    assert first.returncode == 2
    assert (
        "problem: there is no manifest forktex-flow.lock.json: write one with --update"
        in first.stdout
    )

    assert run("--update").returncode == 0
    assert run().stdout == "nothing changed: 1 bodies\n"

    edit(service, '"""What is done with an order."""', "# other words")
    edit(service, "return cents\n", "return cents + 1\n")
    assert run().returncode == 0


def test_a_changed_body_needs_a_new_version(run: Run, service: Path) -> None:
    """Changed under its version: 1 with a diff, and no update. A new version: 2 until --update."""
    manifest = service.with_name("forktex-flow.lock.json")
    assert run("--update").returncode == 0
    written = manifest.read_text()
    edit(service, 'wait_signal("approved")', 'wait_signal("confirmed")')
    changed = run()
    assert changed.returncode == 1
    for line in (
        "changed order@1: the body has changed under the same version",
        "    -    await ctx.wait_signal('approved')",
        "    +    await ctx.wait_signal('confirmed')",
        "runs would break: 1 bodies",
    ):
        assert line in changed.stdout
    refused = run("--update")
    assert refused.returncode == 1
    assert "order@1 changed without a new version: raise version=" in refused.stdout
    assert manifest.read_text() == written


def test_a_new_version_is_taken_up_by_an_update(run: Run, service: Path) -> None:
    """A version that the manifest doesn't know can't be told (2) until the update that adds it."""
    manifest = service.with_name("forktex-flow.lock.json")
    assert run("--update").returncode == 0
    edit(service, "version=1", "version=2")
    bumped = run()
    assert bumped.returncode == 2
    assert "added order@2: not in the manifest" in bumped.stdout
    assert "removed order@1: in the manifest, but no longer in the code" in bumped.stdout
    assert run("--update").returncode == 0
    assert run().returncode == 0
    assert list(Manifest.load(manifest).bodies) == ["order@2"]


def test_force_takes_a_changed_body(run: Run, service: Path) -> None:
    """Whoever knows that no run is in flight may overwrite an entry."""
    assert run("--update").returncode == 0
    edit(service, "return paid", "return paid * 2")
    assert run("--update").returncode == 1
    assert run("--update", "--force").returncode == 0
    assert run().returncode == 0


def test_json_and_strict_lint(run: Run, service: Path) -> None:
    """--json holds all that is known; findings fail only a --strict audit."""
    edit(service, "return paid", "import time\n    return paid + time.time()")
    assert run("--update").returncode == 0
    lax = run("--json")
    content = json.loads(lax.stdout)
    assert (lax.returncode, content["exit_code"]) == (0, 0)
    [finding] = content["findings"]
    line = service.read_text().splitlines()[finding["line"] - 1]
    assert (finding["rule"], line.strip()) == ("wall-clock", "return paid + time.time()")
    assert (content["differences"], content["replayed"]) == ([], None)
    strict = run("--strict")
    assert strict.returncode == 1
    assert f"shop.py:{finding['line']}:" in strict.stdout
    assert "[wall-clock] time.time(): a replay reads another time; use ctx.now()" in strict.stdout
    edit(service, "time.time()", "time.time()  # flow: allow[wall-clock] shown only")
    assert run("--strict").returncode == 0


BAD = {
    "no colon": (["shop"], "is not of the form package.module:flow"),
    "no module": (["nowhere:flow"], "No module named 'nowhere'"),
    "no such name": (["shop:other"], "shop has no Flow named 'other'"),
    "no Flow": (["shop:charge"], "shop has no Flow named 'charge'"),
    "broken module": (["broken:flow"], "importing broken failed: ZeroDivisionError"),
    "no syntax": (["garbled:flow"], "importing garbled failed: SyntaxError"),
    "leaving module": (["leaving:flow"], "importing leaving failed: SystemExit"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_entrypoints(run: Run, tmp_path: Path, what: str) -> None:
    """What can't be imported is one clear line, and exit code 2."""
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "garbled.py").write_text("def (\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n")
    [entrypoint], message = BAD[what]
    done = run(entrypoint=entrypoint)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broken_manifest_is_left_alone(run: Run, service: Path) -> None:
    """It is named, nothing can be told, and no update overwrites it."""
    manifest = service.with_name("m.json")
    manifest.write_text('{"format": 1, "workflows": {"order@1": {}}}')
    broken = run("--manifest", manifest)
    assert broken.returncode == 2
    assert f"problem: manifest {manifest} can't be read (KeyError: 'hash')" in broken.stdout
    assert run("--manifest", manifest, "--update").returncode == 2  # a broken one isn't overwritten


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("postgresql://u:secret@127.0.0.1:1/x", [], "no connection to Postgres at 127.0.0.1:1/x"),
        ("sqlite://u:secret@x", [], "a Flow needs a URL like"),
        (None, [], "there is no Flow in schema"),
        (None, ["--workflow", "no"], "--workflow 'no': the Flow has no workflow of that name"),
    ],
)
def test_databases_that_cannot_be_asked(run: Run, postgres, url, options, message) -> None:
    """Each of these is a line that names it without its password, and exit code 2."""
    done = run("--update", "--database-url", url or postgres.dsn, *options)
    assert done.returncode == 2, done.stdout
    assert f"problem: {message}" in done.stdout
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9, "workflows": {}}', "\x00"])
def test_no_manifest_is_taken_for_one(tmp_path: Path, text: str) -> None:
    """Whatever stands in the file: one ManifestError that says how to mend it."""
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match="restore it from version control"):
        Manifest.load(path)


def test_manifest_keeps_what_is_right(tmp_path: Path) -> None:
    """An entry whose hash still fits keeps its text, so another Python makes no noise in it."""
    flow = Flow("postgresql://h/d")

    @flow.workflow()
    async def body(ctx) -> None: ...

    hash_ = body.fingerprint.hash
    old = Manifest({"body@1": Body(hash_, ("as another Python writes it",))})
    found = audit(flow, old)
    assert found.differences == ()
    assert found.updated(old) == old
    assert Manifest.from_json(old.to_json()) == old


# Runs in flight


@pytest.fixture
async def in_flight(postgres, schema: str, serving) -> tuple[str, str]:
    """A run of ``order`` that waits for its signal, and one of ``other``; their ids."""
    old = Flow(postgres.url, schema=schema)

    @old.step(name="charge")
    async def charge(ctx, cents):
        return cents

    @old.workflow(name="order")
    async def order(ctx, cents: int) -> int:
        paid = await charge(ctx, cents)
        await ctx.wait_signal("approved")
        return paid

    @old.workflow(name="other")
    async def other(ctx) -> None:
        await ctx.wait_signal("approved")

    async with serving(old):
        ids = await old.start("order", 5), await old.start("other")
        done = await old.start("order", 7)
        await old.send_signal(done, "approved", None)
        assert await old.result(done, timeout=20) == 7
        await _parked(postgres, schema, 2)
    return str(ids[0]), str(ids[1])


async def _parked(postgres, schema: str, number: int) -> None:
    from tests.waiting import eventually

    connection = await asyncpg.connect(postgres.dsn, server_settings={"search_path": schema})
    try:

        async def parked() -> bool:
            sql = "SELECT count(*) FROM run WHERE status = 'waiting'"
            return await connection.fetchval(sql) == number

        await eventually(parked, timeout=20)
    finally:
        await connection.close()


async def _content(postgres, schema: str) -> dict[str, list[str]]:
    """Every row of every table of a schema, with its system columns: any write would show."""
    connection = await asyncpg.connect(postgres.dsn, server_settings={"search_path": schema})
    try:
        tables = await connection.fetch(
            "SELECT tablename AS name FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema
        )
        return {
            t["name"]: [
                r[0]
                for r in await connection.fetch(
                    f'SELECT (ctid, xmin, xmax, t)::text FROM "{t["name"]}" t ORDER BY 1'
                )
            ]
            for t in tables
        }
    finally:
        await connection.close()


async def test_runs_in_flight_are_replayed(run: Run, service, in_flight, postgres, schema) -> None:
    """A run that the code no longer takes is named with both sides; no step runs; nothing changes
    in the database, not even its migrations.
    """
    connection = await asyncpg.connect(postgres.dsn, server_settings={"search_path": schema})
    await connection.execute(
        "DELETE FROM migration WHERE number = (SELECT max(number) FROM migration)"
    )
    await connection.close()
    before = await _content(postgres, schema)
    assert run("--update", "--database-url", postgres.url).returncode == 0
    good = run("--database-url", postgres.url, "--json")
    assert json.loads(good.stdout)["replayed"] == {"fits": 1, "diverges": 0, "unsure": 0}

    edit(
        service, "    paid = await charge(ctx, cents)\n", "    paid = await ctx.step(int, cents)\n"
    )
    bad = run("--database-url", postgres.url)
    assert bad.returncode == 1
    assert (
        f"run {in_flight[0]} of order@1 diverges: the journal holds step 'charge' at 1, "
        "the code asks for step 'int'" in bad.stdout
    )
    assert "1 runs in flight replayed: 0 fit, 1 diverge, 0 can't be told" in bad.stdout
    [parted] = json.loads(run("--database-url", postgres.url, "--json").stdout)["runs"]
    assert (parted["run_id"], parted["key"]) == (in_flight[0], "1")
    assert (parted["recorded"], parted["requested"]) == ("step 'charge'", "step 'int'")

    assert not service.with_name("executed").exists()
    assert await _content(postgres, schema) == before


async def test_a_replay_that_does_not_end_is_not_told(
    run: Run, service, in_flight, postgres
) -> None:
    """A body that loops is stopped by its time limit, and the audit can't tell."""
    edit(service, '    await ctx.wait_signal("approved")', "    while True: pass")
    assert run("--update").returncode == 0
    done = run("--database-url", postgres.url, "--timeout", "0.1")
    assert done.returncode == 2
    assert f"run {in_flight[0]} of order@1 unsure: its body ran longer than 0.1 s" in done.stdout


async def test_a_removed_version_with_runs_is_not_told(
    run: Run, service, in_flight, postgres
) -> None:
    """Runs of a version that is gone from the code wait for somebody who has it: that is said."""
    edit(service, "version=1", "version=2")
    assert run("--update").returncode == 0
    done = run("--database-url", postgres.url)
    assert done.returncode == 2
    assert f"run {in_flight[0]} of order@1 unsure: this version isn't registered" in done.stdout


async def test_limit_and_names(flow: Flow, in_flight, postgres) -> None:
    """--limit bounds the runs, --workflow chooses them, the oldest come first."""

    @flow.workflow(name="other")
    async def other(ctx) -> None:
        await ctx.wait_signal("approved")

    @flow.workflow(name="order")
    async def order(ctx, cents: int) -> None:
        await ctx.sleep(1)

    async def found(**options: object) -> list[tuple[str, str]]:
        runs = replay_in_flight(flow, postgres.url, **options)
        return [(str(r.run_id), r.verdict) async for r in runs]

    assert await found() == [(in_flight[0], "diverges"), (in_flight[1], "fits")]
    assert await found(limit=1) == [(in_flight[0], "diverges")]
    assert await found(workflows=["other"]) == [(in_flight[1], "fits")]
    async with Journals.reading(flow, postgres.url) as journals:
        assert await journals.count(["other", "order"]) == 2


async def test_the_session_refuses_to_write(flow: Flow, in_flight, postgres, schema: str) -> None:
    """Even code that tried could write nothing over the audit's connection."""
    async with Journals.reading(flow, postgres.url) as journals:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await journals._connection.execute(f'DELETE FROM "{schema}".run')


async def test_a_journal_is_printed_for_keeping(run: Run, in_flight, postgres) -> None:
    """``forktex-flow journal`` prints what the Replayer reads; an unknown run is one line."""
    done = run(in_flight[0], "--database-url", postgres.url, command="journal")
    journal = Journal.from_json(done.stdout)
    assert (str(journal.run_id), journal.input) == (in_flight[0], "5")
    assert [(e.key, e.kind, e.name) for e in journal.entries] == [("1", "step", "charge")]
    unknown = "00000000-0000-0000-0000-000000000000"
    done = run(unknown, "--database-url", postgres.url, command="journal")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: there is no run {unknown}")


async def test_encoded_journals_are_read_with_the_codec(postgres, schema: str, serving) -> None:
    """What a payload codec stored is decoded before it is replayed or printed."""

    def turned(text: str) -> str:
        return text[::-1]

    flow = Flow(postgres.url, schema=schema, codec=(turned, turned))

    @flow.workflow(name="order")
    async def order(ctx, cents: int) -> None:
        assert await ctx.step(abs, cents) == 57
        await ctx.wait_signal("approved")

    async with serving(flow):
        run_id = await flow.start("order", -57)
        await _parked(postgres, schema, 1)
    assert [r.verdict async for r in replay_in_flight(flow, postgres.url)] == ["fits"]
    async with Journals.reading(flow, postgres.url) as journals:
        assert (await journals.read(run_id)).entries[0].value == "57"
