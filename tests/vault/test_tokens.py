# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Tokens are Fernet's: by the specification's vectors, by other implementations, and both ways."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.vault import (
    DecryptionError,
    ExpiredTokenError,
    MalformedTokenError,
    UnverifiedTokenError,
    Vault,
    inspect_token,
)

DATA = Path(__file__).parent / "data"
SPECIFICATION = json.loads((DATA / "fernet_specification.json").read_text())
ELSEWHERE = json.loads((DATA / "tokens_of_node_fernet.json").read_text())
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def vault_at(vector: dict[str, object]) -> Vault:
    """Make a vault whose clock stands at the vector's now."""
    now = datetime.fromisoformat(str(vector["now"])).timestamp()
    return Vault.from_key(str(vector["secret"]), clock=lambda: now)


@pytest.mark.parametrize("vector", SPECIFICATION["verify"])
def test_the_specifications_tokens_verify(vector: dict[str, object]) -> None:
    """verify.json: the token is read at its time with its ttl."""
    assert (
        vault_at(vector).decrypt_bytes(vector["token"], ttl=vector["ttl_sec"])
        == vector["src"].encode()
    )


@pytest.mark.parametrize("vector", SPECIFICATION["generate"])
def test_the_specifications_generated_token_is_what_we_would_write(
    vector: dict[str, object],
) -> None:
    """generate.json: our token at that time differs from the vector only by the IV's effect."""
    ours = base64.urlsafe_b64decode(vault_at(vector).encrypt_bytes(vector["src"].encode()))
    theirs = base64.urlsafe_b64decode(vector["token"])
    assert ours[:9] == theirs[:9]
    assert len(ours) == len(theirs)
    iv = bytes(vector["iv"])
    assert by_hand(vector["secret"], vector["src"].encode(), ours[1:9], iv) == theirs
    assert by_hand(vector["secret"], vector["src"].encode(), ours[1:9], ours[9:25]) == ours


def by_hand(secret: str, data: bytes, time: bytes, iv: bytes) -> bytes:
    """The specification, written out with the primitives."""
    key = base64.urlsafe_b64decode(secret)
    pad = 16 - len(data) % 16
    encryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(iv)).encryptor()
    signed = b"\x80" + time + iv + encryptor.update(data + bytes([pad]) * pad)
    return signed + hmac.digest(key[:16], signed, hashlib.sha256)


EXPECTED = {
    "incorrect mac": UnverifiedTokenError,
    "too short": MalformedTokenError,
    "invalid base64": MalformedTokenError,
    "payload size not multiple of block size": MalformedTokenError,
    "payload padding error": UnverifiedTokenError,
    "far-future TS (unacceptable clock skew)": ExpiredTokenError,
    "expired TTL": ExpiredTokenError,
    "incorrect IV (causes padding error)": UnverifiedTokenError,
}


@pytest.mark.parametrize("vector", SPECIFICATION["invalid"], ids=lambda vector: vector["desc"])
def test_the_specifications_invalid_tokens_are_refused_by_name(vector: dict[str, object]) -> None:
    """invalid.json: each is refused, with the error that says what it is."""
    with pytest.raises(DecryptionError) as caught:
        vault_at(vector).decrypt_bytes(vector["token"], ttl=vector["ttl_sec"])
    assert type(caught.value) is EXPECTED[vector["desc"]]


@pytest.mark.parametrize("vector", ELSEWHERE)
def test_tokens_of_another_implementation_are_read(vector: dict[str, str]) -> None:
    """Tokens that the npm package `fernet` 0.4 made, stored as data."""
    vault = Vault.from_key(vector["secret"])
    assert vault.decrypt_bytes(vector["token"]) == vector["src"].encode()
    if vector["src"]:
        assert vault.decrypt(vector["token"]) == json.loads(vector["src"])


@given(JSON)
def test_cryptography_reads_ours_and_we_read_its(value: object) -> None:
    """Any JSON value: a bare token of ours is one of Fernet over JSON, and the other way round."""
    key = Fernet.generate_key()
    vault, fernet = Vault.from_key(key), Fernet(key)
    assert json.loads(fernet.decrypt(vault.encrypt(value))) == value
    assert vault.decrypt(fernet.encrypt(json.dumps(value).encode())) == value
    assert vault.decrypt(fernet.encrypt(json.dumps(value).encode()).decode()) == value


@given(st.binary(max_size=300), st.booleans())
def test_inspect_tells_time_and_key_without_a_key(data: bytes, envelope: bool) -> None:
    """`inspect_token` reads both forms, and its bound on the size holds."""
    vault = Vault.from_key(Vault.generate_key(), clock=lambda: 1_700_000_000.9)
    info = inspect_token(vault.encrypt_bytes(data, envelope=envelope))
    assert info.fingerprint == (vault.fingerprint if envelope else None)
    assert info.created == datetime.fromtimestamp(1_700_000_000, UTC)
    assert len(data) <= info.payload_bytes < len(data) + 16
    assert info.age(info.created + timedelta(seconds=5)) == timedelta(seconds=5)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "hello",
        "žluť",
        b"\xff\xfe",
        "fk1:",
        "fk1:123",
        "fk1:123456789abc",
        "fk1:XYZ456789abc:gAAAA",
        "fk1:123456789abc:",
        "fk2:123456789abc:gAAAA",
        "gAAAAABrBAfN",
        '{"password": "hunter2"}',
    ],
)
def test_what_is_no_token_is_malformed_and_not_repeated(token: str | bytes) -> None:
    """A MalformedTokenError, whose text doesn't hold the input: it may be a secret."""
    vault = Vault.from_key(Vault.generate_key())
    for read in (vault.decrypt, vault.decrypt_bytes, inspect_token):
        with pytest.raises(MalformedTokenError) as caught:
            read(token)
        assert "hunter2" not in str(caught.value)


@given(st.text() | st.binary())
def test_no_input_breaks_the_parser(token: str | bytes) -> None:
    """Whatever text comes, the answer is a DecryptionError."""
    vault = Vault.from_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    with pytest.raises(DecryptionError):
        vault.decrypt(token)


@pytest.mark.parametrize("token", [None, 12, ["gAAAA"]])
def test_a_token_is_text(token: object) -> None:
    """Another type is the caller's mistake, and named."""
    with pytest.raises(TypeError, match=type(token).__name__):
        Vault.from_key(Vault.generate_key()).decrypt(token)


def test_a_time_beyond_the_calendar_is_malformed() -> None:
    """A token's time may be any 64-bit number; inspecting it doesn't overflow."""
    raw = b"\x80" + b"\xff" * 8 + bytes(16 + 16 + 32)
    with pytest.raises(MalformedTokenError, match="calendar"):
        inspect_token(base64.urlsafe_b64encode(raw))
