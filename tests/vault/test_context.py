# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Tokens bound to a place, and keys derived and wrapped per tenant."""

import base64
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import assume, given
from hypothesis import strategies as st

from forktex_core.vault import (
    DecryptionError,
    InvalidKeyError,
    TamperedTokenError,
    UnknownKeyError,
    UnverifiedTokenError,
    Vault,
)

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
VAULT = Vault.from_key(KEY)
CONTEXT = st.lists(
    st.text("ab", min_size=1, max_size=3) | st.integers(0, 30) | st.uuids(), min_size=1, max_size=4
)


@given(CONTEXT, CONTEXT)
def test_a_token_opens_in_its_own_context_only(
    here: list[str | int | UUID], there: list[str | int | UUID]
) -> None:
    """Another place, no place, or the same letters split elsewhere: refused."""
    assume([str(part) for part in here] != [str(part) for part in there])
    for envelope in (True, False):
        token = VAULT.encrypt("x", context=here, envelope=envelope)
        assert VAULT.decrypt(token, context=here) == "x"
        for wrong in (there, None):
            with pytest.raises(UnverifiedTokenError):
                VAULT.decrypt(token, context=wrong)
        with pytest.raises(UnverifiedTokenError):
            VAULT.decrypt(VAULT.encrypt("x", envelope=envelope), context=here)


def test_a_token_copied_to_another_row_does_not_decrypt() -> None:
    """Bound to table, column and row id: the copy is refused, and says that it may be the place."""
    mine, yours = uuid4(), uuid4()
    token = VAULT.encrypt("secret", context=("invoice", "payload", mine), envelope=True)
    with pytest.raises(TamperedTokenError, match="made for another context"):
        VAULT.decrypt(token, context=("invoice", "payload", yours))
    with pytest.raises(TamperedTokenError, match="bound to a context"):
        VAULT.decrypt(token)
    assert VAULT.decrypt(token, context=("invoice", "payload", str(mine))) == "secret"


def test_a_single_part_needs_no_tuple() -> None:
    """``context=row_id`` is the context of one part; numbers count as their text."""
    assert VAULT.decrypt(VAULT.encrypt(1, context=7), context=("7",)) == 1


@pytest.mark.parametrize(
    ("context", "error"),
    [
        ((), ValueError),
        ("", ValueError),
        (("a", ""), ValueError),
        (("a", None), TypeError),
        (None, None),
        (("a", 1.5), TypeError),
        (("a", True), TypeError),
        (("a", b"x"), TypeError),
        (("a", ["b"]), TypeError),
        (b"xy", TypeError),
        ({"a", "b"}, TypeError),
        (1.5, TypeError),
        (True, TypeError),
    ],
)
def test_a_context_that_names_no_place_is_refused(
    context: object, error: type[Exception] | None
) -> None:
    """An id that isn't assigned yet must not bind a token to nowhere; None alone means unbound."""
    if error is None:
        assert Fernet(KEY).decrypt(VAULT.encrypt(1, context=context)) == b"1"
        return
    with pytest.raises(error, match="context"):
        VAULT.encrypt(1, context=context)


def test_what_is_kept_of_a_context_keeps_types_apart() -> None:
    """1 and True are equal and hash alike; having encoded the one doesn't let the other pass."""
    VAULT.encrypt("x", context=("row", 1))
    with pytest.raises(TypeError, match="not bool"):
        VAULT.encrypt("x", context=("row", True))


def test_a_bound_token_is_fernet_under_an_hkdf_subkey() -> None:
    """The construction of the design document, written out with the primitives of RFC 5869."""
    info = b"context\0" + b"\0\0\0\x05table" + b"\0\0\0\x0242"
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=b"forktex_core.vault 1", info=info)
    subkey = Fernet(base64.urlsafe_b64encode(hkdf.derive(base64.urlsafe_b64decode(KEY))))
    token = VAULT.encrypt("x", context=("table", 42))
    assert subkey.decrypt(token) == b'"x"'
    with pytest.raises(InvalidToken):
        Fernet(KEY).decrypt(token)
    assert VAULT.decrypt(subkey.encrypt(b"[1]"), context=("table", 42)) == [1]


def test_bound_tokens_open_under_every_key_of_the_ring() -> None:
    """Context and rotation go together."""
    other = Vault.generate_key()
    ring = Vault.from_keys([other, KEY])
    for envelope in (True, False):
        token = VAULT.encrypt("x", context="here", envelope=envelope)
        assert ring.decrypt(token, context="here") == "x"


def test_many_contexts_hold_no_more_than_a_few_subkeys() -> None:
    """The subkeys that are kept ready are bounded: contexts by row don't fill the memory."""
    vault = Vault.from_key(KEY)
    for row in range(1_000):
        vault.encrypt(row, context=("t", row))
    assert vault.keyring.first.bound.cache_info().currsize <= 128


@given(st.uuids(), st.uuids())
def test_tenants_vaults_are_apart(mine: UUID, yours: UUID) -> None:
    """Neither another tenant's vault nor the parent decrypts; the same id does, in any process."""
    assume(mine != yours)
    token = VAULT.derive(mine).encrypt("x", envelope=True)
    assert Vault.from_key(KEY).derive(str(mine)).decrypt(token) == "x"
    for stranger in (VAULT.derive(yours), VAULT, VAULT.derive(mine).derive(mine)):
        with pytest.raises(UnknownKeyError):
            stranger.decrypt(token)
    with pytest.raises(UnverifiedTokenError):
        VAULT.decrypt(VAULT.derive(mine).encrypt("x"), context=str(mine))


def test_a_derived_vault_reads_with_each_key() -> None:
    """Deriving from a ring derives each of its keys, in order; limits and clock are inherited."""
    other = Vault.generate_key()
    ring = Vault.from_keys([other, KEY], max_bytes=10, clock=lambda: 0).derive("acme")
    assert ring.decrypt(VAULT.derive("acme").encrypt("x", envelope=True)) == "x"
    assert ring.fingerprints == (
        Vault.from_key(other).derive("acme").fingerprint,
        VAULT.derive("acme").fingerprint,
    )
    with pytest.raises(DecryptionError, match="in the future"):
        ring.decrypt(VAULT.derive("acme").encrypt("x"), ttl=1)


def test_a_tenant_needs_a_name() -> None:
    """``derive()`` without an id, or with None, is a mistake and refused."""
    with pytest.raises(ValueError, match="part"):
        VAULT.derive()
    with pytest.raises(TypeError, match="NoneType"):
        VAULT.derive(None)


def test_a_wrapped_key_opens_a_vault_of_its_own() -> None:
    """Random per tenant, bound to it, useless to others; without it the data stays closed."""
    wrapped = VAULT.wrap_new_key(context="acme")
    acme = VAULT.unwrap_key(wrapped, context="acme")
    assert wrapped.startswith(f"fk1:{VAULT.fingerprint}:")
    token = acme.encrypt("x", envelope=True)
    assert Vault.from_key(KEY).unwrap_key(wrapped, context="acme").decrypt(token) == "x"
    assert VAULT.wrap_new_key(context="acme") != wrapped
    with pytest.raises(TamperedTokenError):
        VAULT.unwrap_key(wrapped, context="globex")
    for stranger in (VAULT, VAULT.unwrap_key(VAULT.wrap_new_key())):
        with pytest.raises(UnknownKeyError):
            stranger.decrypt(token)


def test_what_is_wrapped_must_be_a_key() -> None:
    """A token over something else says so, without showing it."""
    with pytest.raises(InvalidKeyError) as caught:
        VAULT.unwrap_key(VAULT.encrypt_bytes(b"hunter2"))
    assert "hunter2" not in str(caught.value)
