# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The public names, and what importing them loads."""

import subprocess
import sys

from forktex_core import vault

PUBLIC = """BlindDigest BlindIndex CorruptRow DecryptionError EncryptedBytes EncryptedJSON
EncryptedText ExpiredTokenError InvalidKeyError MalformedTokenError NotSearchableError PayloadError
PayloadTooLargeError RotationError RotationProgress RotationReport TamperedTokenError TokenInfo
UnknownKeyError UnverifiedTokenError Vault VaultError inspect_token rotate_blobs"""


def test_the_public_surface() -> None:
    """Exactly these, each documented; every error descends from the root."""
    assert vault.__all__ == PUBLIC.split()
    for name in vault.__all__:
        each = getattr(vault, name)
        assert each.__doc__
        if name.endswith("Error"):
            assert issubclass(each, vault.VaultError)


def test_importing_loads_no_driver_and_no_sibling() -> None:
    """Neither asyncpg, redis, pydantic nor rich come with it."""
    probe = (
        "import sys, forktex_core.vault; print([m for m in sys.modules if m in "
        "('asyncpg', 'redis', 'pydantic', 'rich', 'click', 'forktex_core.db')])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_misuse_is_rejected_by_the_type_checker(tmp_path) -> None:
    """A key for a vault, a number for a token, and the type of what is decrypted."""
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from forktex_core.vault import EncryptedJSON, Vault\n"
        "vault = Vault.from_key('x')\n"
        "EncryptedJSON('key')\n"
        "vault.decrypt(12)\n"
        "number: str = vault.decrypt('t', int)\n"
        "good: int = vault.decrypt('t', int)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", str(snippet)]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert [int(line.split(":")[1]) for line in found.splitlines() if " error: " in line] == [
        3,
        4,
        5,
    ]
