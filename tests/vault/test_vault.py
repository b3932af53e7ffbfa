# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Keys, what a failed decryption says, and that nothing shows a key or a payload."""

import copy
import io
import logging
import pickle
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from rich.console import Console
from rich.traceback import Traceback

from forktex_core.vault import (
    DecryptionError,
    ExpiredTokenError,
    InvalidKeyError,
    TamperedTokenError,
    UnknownKeyError,
    UnverifiedTokenError,
    Vault,
    VaultError,
)
from tests.vault.exposure import KEY, OTHER, key_material, shown, shown_by_rich


def test_the_seeds_example() -> None:
    """The product's own description works as it is written."""
    vault = Vault.from_key(Vault.generate_key())
    token = vault.encrypt({"hetzner_token": "...", "ssh_key_id": 12345})
    assert vault.decrypt(token) == {"hetzner_token": "...", "ssh_key_id": 12345}


@pytest.mark.parametrize("key", [KEY, KEY.encode(), SecretStr(KEY), f"  {KEY}\n"])
def test_a_key_is_text_bytes_or_a_secret_of_the_settings(key: str | bytes | SecretStr) -> None:
    """All forms in which a host may hold the key make the same vault."""
    assert Vault.from_key(key).fingerprint == Vault.from_key(KEY).fingerprint


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("", "0 bytes"),
        ("hunter2", "isn't base64url"),
        ("hunter2hunter2hunter2hunter2hunter2hunter2€€", "isn't base64url"),
        (KEY[:-8], "isn't base64url|bytes instead of 32"),
        (KEY[:40], "30 bytes instead of 32"),
        ("A" * 64, "48 bytes instead of 32"),
        (b"\xff\xfe" * 22, "isn't base64url"),
        (12, "not int"),
        (None, "not NoneType"),
    ],
)
def test_an_invalid_key_is_refused_with_the_way_to_make_one(key: object, complaint: str) -> None:
    """The error says what is wrong and names generate_key; the text of the key is nowhere."""
    with pytest.raises(InvalidKeyError, match=complaint) as caught:
        Vault.from_key(key)
    assert "Vault.generate_key()" in str(caught.value)
    assert "forktex-vault generate-key" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert "hunter2" not in shown(caught.value)


def test_one_bad_key_of_several_is_numbered() -> None:
    """From a list, the message says which key it is."""
    with pytest.raises(InvalidKeyError, match="key 2 of 2"):
        Vault.from_keys([KEY, "short"])
    with pytest.raises(InvalidKeyError, match="at least one key"):
        Vault.from_keys([])


def test_a_vault_is_made_from_keys_only() -> None:
    """The constructor isn't the way in, and says what is."""
    with pytest.raises(TypeError, match="from_key"):
        Vault(KEY)


def test_generated_keys_are_32_fresh_bytes() -> None:
    """Each one is new and makes a vault."""
    keys = {Vault.generate_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) == 44 and Vault.from_key(key) for key in keys)


def test_fingerprints_are_stable_short_and_ours() -> None:
    """A fingerprint never changes (it is stored in rows) and isn't a part of the key."""
    assert Vault.from_key(KEY).fingerprint == "cf6dbfd936a6"
    assert Vault.from_key(OTHER).fingerprint == "22eb9a4a1174"


def test_the_first_key_encrypts_and_each_decrypts() -> None:
    """A ring of [new, old] writes with the new one and reads what either wrote, in both forms."""
    old, new = Vault.from_key(KEY), Vault.from_key(OTHER)
    ring = Vault.from_keys([OTHER, KEY])
    assert ring.fingerprint == new.fingerprint
    assert ring.fingerprints == (new.fingerprint, old.fingerprint)
    for envelope in (True, False):
        assert new.decrypt(ring.encrypt(1, envelope=envelope)) == 1
        assert ring.decrypt(old.encrypt(2, envelope=envelope)) == 2
        with pytest.raises(DecryptionError):
            old.decrypt(ring.encrypt(1, envelope=envelope))
    assert Vault.from_keys([KEY, KEY]).fingerprints == (old.fingerprint,)


def test_an_enveloped_token_names_its_key() -> None:
    """``fk1:<fingerprint>:`` and the standard token."""
    vault = Vault.from_key(KEY)
    mark, fingerprint, bare = vault.encrypt({"a": 1}, envelope=True).split(":")
    assert (mark, fingerprint) == ("fk1", vault.fingerprint)
    assert vault.decrypt(bare) == {"a": 1}


def test_an_unknown_key_is_named_with_those_known() -> None:
    """The diagnostic of a rotated key: its fingerprint, ours, and what to do."""
    ring = Vault.from_keys([KEY, Vault.generate_key()])
    with pytest.raises(UnknownKeyError, match="from_keys") as caught:
        ring.decrypt(Vault.from_key(OTHER).encrypt(1, envelope=True))
    assert caught.value.fingerprint == Vault.from_key(OTHER).fingerprint
    assert caught.value.known == ring.fingerprints
    assert all(each in str(caught.value) for each in (*ring.fingerprints, caught.value.fingerprint))


def test_a_bare_token_is_unknown_or_tampered() -> None:
    """Its format can't tell the two apart, and the error doesn't pretend to."""
    with pytest.raises(UnverifiedTokenError, match="unknown key or tampered") as caught:
        Vault.from_key(KEY).decrypt(Vault.from_key(OTHER).encrypt(1))
    assert type(caught.value) is UnverifiedTokenError
    assert caught.value.known == (Vault.from_key(KEY).fingerprint,)


@given(data=st.data(), payload=st.binary(max_size=80))
def test_every_changed_byte_is_tampered(data: st.DataObject, payload: bytes) -> None:
    """Any change of an enveloped token's bytes is refused, and never by a wrong answer."""
    vault = Vault.from_key(KEY)
    token = vault.encrypt_bytes(payload, envelope=True)
    place = data.draw(st.integers(len("fk1:123456789abc:"), len(token.rstrip("=")) - 2))
    letter = data.draw(
        st.sampled_from("ABCDEFabcdef0123456789-_").filter(lambda c: c != token[place])
    )
    with pytest.raises(DecryptionError):
        vault.decrypt_bytes(token[:place] + letter + token[place + 1 :])


def tampered(token: str) -> str:
    """Change one letter of the signature."""
    return token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:]


def test_a_changed_signature_is_tampered() -> None:
    """With a known fingerprint the answer is exact."""
    vault = Vault.from_key(KEY)
    token = vault.encrypt(1, envelope=True)
    with pytest.raises(TamperedTokenError, match=vault.fingerprint):
        vault.decrypt(tampered(token))


def test_a_swapped_fingerprint_gains_nothing() -> None:
    """The envelope isn't signed: pointing it at another key ends in an error, too."""
    ring = Vault.from_keys([KEY, OTHER])
    _, _, bare = ring.encrypt(1, envelope=True).split(":")
    with pytest.raises(TamperedTokenError):
        ring.decrypt(f"fk1:{ring.fingerprints[1]}:{bare}")
    with pytest.raises(UnknownKeyError):
        ring.decrypt(f"fk1:{'0' * 12}:{bare}")


@pytest.mark.parametrize("ttl", [60, 60.0, timedelta(minutes=1)])
def test_a_ttl_is_kept_to_the_second(ttl: float | timedelta) -> None:
    """Exactly `ttl` old is still good; a second more is expired; the age is told."""
    now = 1_000_000.0
    vault = Vault.from_key(KEY, clock=lambda: now)
    token = vault.encrypt("x")
    now += 60
    assert vault.decrypt(token, ttl=ttl) == "x"
    now += 1
    with pytest.raises(ExpiredTokenError, match="61 s old and 60 s are allowed"):
        vault.decrypt(token, ttl=ttl)
    assert vault.decrypt(token) == "x"


def test_a_token_from_the_future_names_the_clock() -> None:
    """A minute of skew is forgiven, more isn't."""
    now = 1_000_000.0
    vault = Vault.from_key(KEY, clock=lambda: now)
    token = vault.encrypt("x")
    now -= 60
    assert vault.decrypt(token, ttl=1) == "x"
    now -= 1
    with pytest.raises(ExpiredTokenError, match="61 s in the future"):
        vault.decrypt(token, ttl=1)


def test_only_an_authentic_token_is_called_expired() -> None:
    """A stranger's old token is unknown, whatever its time says."""
    now = 1_000_000.0
    stranger = Vault.from_key(OTHER, clock=lambda: now).encrypt(1)
    now += 1_000
    with pytest.raises(UnverifiedTokenError):
        Vault.from_key(KEY, clock=lambda: now).decrypt(stranger, ttl=1)


SECRET = {"password": "correct-horse"}


def refusals() -> list[Exception]:
    """One of each failure that has a plaintext or a key near it."""
    now = 1_000_000.0
    vault = Vault.from_keys([KEY, OTHER], clock=lambda: now)
    token = vault.encrypt(SECRET, envelope=True)
    raw = vault.encrypt_bytes(b"correct-horse \xff")
    late = Vault.from_key(KEY, clock=lambda: now + 100)
    attempts = [
        lambda: late.decrypt(token, ttl=1),
        lambda: vault.decrypt(tampered(token)),
        lambda: vault.decrypt(token, context="elsewhere"),
        lambda: vault.derive("acme").decrypt(token),
        lambda: vault.decrypt(raw),
        lambda: vault.decrypt(vault.encrypt_bytes(b"correct-horse")),
        lambda: vault.decrypt(token, dict[str, int]),
        lambda: vault.decrypt(token, int),
        lambda: vault.decrypt(vault.encrypt_bytes(b"\x1f\x8bcorrect-horse")),
        lambda: Vault.from_key(KEY, max_bytes=5).decrypt(token),
        lambda: Vault.from_keys([KEY, KEY + "correct-horse"]),
        lambda: vault.unwrap_key(vault.encrypt_bytes(b"correct-horse")),
        lambda: vault.unwrap_key(vault.encrypt_bytes(OTHER.encode()[:-6])),
        lambda: vault.encrypt({**SECRET, "bad": {1j}}),
        lambda: vault.encrypt(SECRET, int),
        lambda: vault.encrypt(SECRET, context=("invoice", None)),
        lambda: vault.encrypt_bytes(b"correct-horse", context=()),
        lambda: vault.encrypt_bytes(KEY.encode(), context=()),
        lambda: Vault.from_key(KEY, max_bytes=5).encrypt(SECRET),
        lambda: Vault.from_key(KEY, max_bytes=5).encrypt_bytes(b"correct-horse"),
    ]
    found = []
    for attempt in attempts:
        with pytest.raises((VaultError, ValueError, TypeError)) as caught:
            attempt()
        found.append(caught.value)
    return found


@pytest.mark.parametrize("exc", refusals(), ids=lambda exc: type(exc).__name__)
def test_no_failure_shows_a_key_or_a_payload(exc: Exception) -> None:
    """Messages, causes, contexts, attributes and our frames' local variables, as rich has them."""
    for text in (shown(exc), shown_by_rich(exc)):
        assert "correct-horse" not in text
        assert not [secret for secret in key_material() if secret in text]


def test_a_vault_shows_only_fingerprints() -> None:
    """repr, str, format, logs and rich's rendering with local variables."""
    vault = Vault.from_keys([KEY, OTHER])
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("test.vault")
    logger.addHandler(handler)
    logger.warning("%s %r", vault, [vault, vault.keyring, list(vault.keyring.keys.values())])
    logger.removeHandler(handler)
    console = Console(file=io.StringIO(), width=200)
    console.print(vault, vault.keyring)
    try:
        vault.decrypt("nonsense")
    except DecryptionError:
        console.print(Traceback(show_locals=True))
    text = f"{vault} {vault!r} {log.getvalue()} {console.file.getvalue()}"
    assert repr(vault) == (
        f"<Vault {Vault.from_key(KEY).fingerprint}, also reads {Vault.from_key(OTHER).fingerprint}>"
    )
    # The test's own module holds KEY as a constant, which rich doesn't show: only locals.
    assert not [secret for secret in key_material() if secret in text]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_vault_is_not_pickled(protocol: int) -> None:
    """Neither it nor what is in it goes into a pickle, a cache or another process."""
    vault = Vault.from_key(KEY)
    for each in (vault, vault.keyring.first):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(each, protocol)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps({"deep": [vault.keyring]}, protocol)


def test_copies_are_the_vault_itself() -> None:
    """copy and deepcopy multiply no key material; a vault has no __dict__ to walk over."""
    vault = Vault.from_key(KEY)
    assert copy.copy(vault) is vault
    assert copy.deepcopy({"a": [vault]})["a"][0] is vault
    assert copy.deepcopy(vault.keyring.first) is copy.copy(vault.keyring.first)
    assert not hasattr(vault, "__dict__")
    assert not hasattr(vault.keyring.first, "__dict__")
