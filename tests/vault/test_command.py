# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The command `forktex-vault`."""

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert, select

from forktex_core.vault import Vault
from forktex_core.vault.cli import main
from tests.vault.conftest import Sessions
from tests.vault.models import NEW, OLD, Credential, Legacy

OLD_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NEW_KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="


def run(*arguments: str, given: str | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, list(arguments), input=given)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, str]:
    """Files with the old and the new key."""
    for name, key in (("old", OLD_KEY), ("new", NEW_KEY)):
        (tmp_path / name).write_text(key + "\n")
    return str(tmp_path / "old"), str(tmp_path / "new")


def test_a_key_goes_to_the_terminal_or_to_a_file_of_its_owner(tmp_path: Path) -> None:
    """The file is readable by its owner only, and never overwritten."""
    assert Vault.from_key(run("generate-key").stdout)
    path = tmp_path / "key"
    assert run("generate-key", "--output", str(path)).stdout == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text()
    assert run("generate-key", "--output", str(path)).exit_code == 1
    assert path.read_text() == key


def test_encrypt_decrypt_and_inspect(keys: tuple[str, str]) -> None:
    """JSON in, JSON out; inspect needs no key; a wrong key is one line, not a traceback."""
    old, new = keys
    token = run("encrypt", "--key-file", old, "--envelope", given='{"a": [1]}').stdout.strip()
    assert OLD.decrypt(token) == {"a": [1]}
    assert json.loads(run("decrypt", "--key-file", old, token).stdout) == {"a": [1]}
    assert json.loads(run("decrypt", token, given=OLD_KEY + "\n").stdout) == {"a": [1]}
    shown = run("inspect", "-", given=token)
    assert OLD.fingerprint in shown.stdout
    assert "age" in shown.stdout
    wrong = run("decrypt", "--key-file", new, token)
    assert wrong.exit_code == 1
    assert "unknown key" in wrong.stderr
    assert run("inspect", "nonsense").exit_code == 1
    assert run("encrypt", "--key-file", old, given="no json").exit_code == 1
    bound = run("encrypt", "--key-file", old, "--context", "t", "--text", given="x").stdout.strip()
    assert OLD.decrypt_bytes(bound, context="t") == b"x"


async def test_rotate_several_tables(keys: tuple[str, str], database, sessions: Sessions) -> None:
    """A dry run, then the rotation of two tables; nothing is left on the old key."""
    async with sessions() as session:
        rows = [{"payload": {"i": i}} for i in range(30)]
        await session.execute(insert(Credential), rows)
        session.add(Legacy(id=1, doc=OLD.encrypt("x")))
        await session.commit()
    arguments = (
        "rotate", "--database-url", database.dsn, "--old-key-file", keys[0],
        "--new-key-file", keys[1], "--table", "credential", "--column", "payload",
        "--table", "public.legacy", "--column", "doc",
    )  # fmt: skip
    dry = await asyncio.to_thread(run, *arguments, "--dry-run")
    assert "0 rotated, 30 to rotate" in dry.stdout, dry.output
    done = await asyncio.to_thread(run, *arguments)
    assert done.exit_code == 0, done.output
    assert "30 rotated, 0 left, 0 corrupt" in done.stdout
    assert "30/30" in done.stderr  # The bar.
    async with sessions() as session:
        assert NEW.decrypt(await session.scalar(select(Legacy.doc))) == "x"
        session.add(Legacy(id=2, doc="broken"))
        await session.commit()
    bad = await asyncio.to_thread(run, *arguments)
    assert bad.exit_code == 1
    assert "id=2: malformed" in bad.stdout
    assert (await asyncio.to_thread(run, *arguments, "--skip-corrupt")).exit_code == 0
    for wrong in (("--table", "nope", "--column", "x"), ("--table", "one-too-many")):
        assert (await asyncio.to_thread(run, *arguments, *wrong)).exit_code != 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("encrypt", "--key-file", "OLD", "--context", ""), "part of a context is empty"),
        (("encrypt", "--key-file", "BAD"), "bad: this key holds 3 bytes"),
        (("encrypt", "--key-file", "nowhere"), "'nowhere' does not exist"),
        (("generate-key", "--output", "BAD"), "bad exists; a key is never written over"),
        (("decrypt", "--key-file", "NEW", "hunter2"), "malformed token"),
        (("rotate", "--database-url", "junk"), "isn't a URL such as postgresql://"),
        (("rotate", "--database-url", "mysql://h/d"), "for PostgreSQL (postgresql://…), not for"),
        (("rotate", "--database-url", "postgresql+psycopg2://127.0.0.1:1/d"), "Connect call"),
        (("rotate", "--database-url", "x", "--patience", "-1"), "--patience"),
        (("rotate", "--database-url", "x", "--batch-size", "0"), "--batch-size"),
    ],
)
def test_bad_input_is_one_clear_message(
    keys: tuple[str, str], tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    """It names the thing and never shows a traceback, nor what may be a secret."""
    bad = tmp_path / "bad"
    bad.write_text("junk")
    files = {"OLD": keys[0], "NEW": keys[1], "BAD": str(bad)}
    if arguments[0] == "rotate":
        arguments += ("--table", "t", "--column", "c")
        arguments += ("--old-key-file", "OLD", "--new-key-file", "NEW")
    shown = run(*(files.get(each, each) for each in arguments), given="{}")
    assert shown.exit_code in {1, 2}
    assert isinstance(shown.exception, SystemExit)
    assert complaint in " ".join(shown.stderr.split())
    assert "hunter2" not in shown.output


def test_without_a_terminal_no_key_is_asked_for() -> None:
    """A key that is piped in is not taken, and a key never shows while it is typed."""
    done = subprocess.run(
        [sys.executable, "-m", "forktex_core.vault.cli", "decrypt", "token"],
        check=False,
        capture_output=True,
        text=True,
        input=OLD_KEY,
        start_new_session=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no terminal to ask for the key" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_never_arguments() -> None:
    """No option of any command takes a key itself."""
    names = {p.name for command in main.commands.values() for p in command.params}
    assert not names & {"key", "old_key", "new_key", "password", "secret"}
