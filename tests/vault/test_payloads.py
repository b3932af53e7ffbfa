# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can be encrypted: JSON, typed values, limits, compression."""

import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator

from forktex_core.vault import PayloadError, PayloadTooLargeError, Vault

VAULT = Vault.from_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")


class Credentials(BaseModel):
    """A payload with a type."""

    token: str
    account: UUID
    limit: Decimal
    expires: datetime | None = None


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), datetime),
        (date(2026, 1, 2), date),
        (uuid4(), UUID),
        (Decimal("0.10000000000000000000000000001"), Decimal),
        (b"\x00\xff\x1f\x8b", bytes),
        ({1, 2, 3}, set[int]),
        ({uuid4(): Decimal("1.50")}, dict[UUID, Decimal]),
        ([date(2026, 1, 2)], list[date]),
        (7, Annotated[int, Field(gt=1)]),
        (Credentials(token="t", account=uuid4(), limit=Decimal("9.90")), Credentials),
    ],
)
def test_typed_values_come_back_as_they_were(value: object, type_: type) -> None:
    """A type that pydantic knows makes the round trip, and the payload is JSON."""
    token = VAULT.encrypt(value, type_)
    assert VAULT.decrypt(token, type_) == value
    json.loads(VAULT.decrypt_bytes(token))


@given(st.builds(Credentials, limit=st.decimals(allow_nan=False, allow_infinity=False)))
def test_any_model_makes_the_round_trip(value: Credentials) -> None:
    """Decimals, times and ids survive exactly, compressed or not."""
    for compress in (False, True):
        token = VAULT.encrypt(value, Credentials, compress=compress)
        assert VAULT.decrypt(token, Credentials) == value


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_is_json(value: str) -> None:
    """Lone surrogates, which JSON allows and UTF-8 doesn't, survive as well."""
    assert VAULT.decrypt(VAULT.encrypt([value])) == [value]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), "datetime is none: give the type"),
        ({"a": b"x"}, "bytes is none: give the type"),
        (Credentials(token="t", account=uuid4(), limit=Decimal(1)), "Credentials is none"),
        ([float("nan")], "no NaN"),
        ({(1, 2): 3}, "JSON value"),
    ],
)
def test_what_is_no_json_is_refused_with_the_typed_form(value: object, complaint: str) -> None:
    """Nothing is turned into text behind the caller's back."""
    with pytest.raises(PayloadError, match=complaint):
        VAULT.encrypt(value)


def test_a_cycle_is_refused() -> None:
    """It ends in an error of ours, not in a recursion."""
    value: list[object] = []
    value.append(value)
    with pytest.raises(PayloadError, match="cycle"):
        VAULT.encrypt(value)


def test_a_value_that_does_not_fit_is_refused_when_written() -> None:
    """What is written can be read; the refusal tells the type's own names only."""
    with pytest.raises(PayloadError, match=r"dict doesn't fit Credentials .*account: missing"):
        VAULT.encrypt({"token": "hunter2"}, Credentials)
    changed = Credentials(token="t", account=uuid4(), limit=Decimal(1))
    changed.limit = "hunter2"
    with pytest.raises(PayloadError, match="can't be written as Credentials") as caught:
        VAULT.encrypt(changed, Credentials)
    assert "hunter2" not in str(caught.value)


def test_a_payload_of_an_older_type_says_so() -> None:
    """The error names the field and the kind, not the content or the keys of a mapping."""
    token = VAULT.encrypt({"token": "t"})
    with pytest.raises(PayloadError, match=r"account: missing.*older version"):
        VAULT.decrypt(token, Credentials)
    with pytest.raises(PayloadError, match=r"\(int_parsing\)"):
        VAULT.decrypt(VAULT.encrypt({"hunter2": "x"}), dict[str, int])


def test_a_secret_that_pydantic_would_hide_is_refused() -> None:
    """SecretStr is written as asterisks: the secret would be lost without a word."""

    class Hidden(BaseModel):
        password: SecretStr

    class Revealed(Hidden):
        @field_serializer("password", when_used="json")
        def reveal(self, value: SecretStr) -> str:
            return value.get_secret_value()

    with pytest.raises(PayloadError, match=r"asterisks.*field_serializer"):
        VAULT.encrypt(Hidden(password="x"), Hidden)
    value = Revealed(password="hunter2")
    assert VAULT.decrypt(VAULT.encrypt(value, Revealed), Revealed) == value


def test_a_field_named_write_only_is_no_secret() -> None:
    """The check looks at the schema's mark, not at names."""

    class Odd(BaseModel):
        writeOnly: bool = True

    assert VAULT.decrypt(VAULT.encrypt(Odd(), Odd), Odd) == Odd()


def test_aliases_make_the_round_trip() -> None:
    """A model is written by the names that it is read by."""

    class Aliased(BaseModel):
        token: str = Field(alias="apiToken")

    assert VAULT.decrypt(VAULT.encrypt(Aliased(apiToken="x"), Aliased), Aliased).token == "x"


def test_a_model_with_raw_bytes_needs_base64_and_is_told() -> None:
    """Bytes that aren't UTF-8 fail with the setting to use, and work with it."""

    class Raw(BaseModel):
        data: bytes

    class Encoded(Raw):
        model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    with pytest.raises(PayloadError, match="ser_json_bytes"):
        VAULT.encrypt(Raw(data=b"\xff"), Raw)
    assert VAULT.decrypt(VAULT.encrypt(Encoded(data=b"\xff"), Encoded), Encoded).data == b"\xff"


def test_what_a_validator_of_the_users_raises_is_withheld() -> None:
    """Its message may hold the value; its kind is told."""

    class Loud(BaseModel):
        token: str

        @field_validator("token")
        @classmethod
        def check(cls, value: str) -> str:
            raise LookupError(value)

    with pytest.raises(PayloadError, match="LookupError") as caught:
        VAULT.encrypt({"token": "hunter2"}, Loud)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


def test_the_limit_is_exact_and_told() -> None:
    """`max_bytes` holds for the encoded payload, on writing and on reading."""
    small = Vault.from_key(Fernet.generate_key(), max_bytes=100)
    assert small.decrypt_bytes(small.encrypt_bytes(bytes(100))) == bytes(100)
    assert small.decrypt(small.encrypt("x" * 98)) == "x" * 98
    with pytest.raises(PayloadTooLargeError, match=r"101 bytes is above .* 100") as caught:
        small.encrypt_bytes(bytes(101))
    assert (caught.value.size, caught.value.limit) == (101, 100)
    with pytest.raises(PayloadTooLargeError):
        small.encrypt("x" * 99)
    with pytest.raises(PayloadTooLargeError):
        small.encrypt("x" * 99, compress=True)


def test_a_token_above_the_limit_is_not_even_decrypted() -> None:
    """A huge token costs nothing but its length."""
    key = Fernet.generate_key()
    token = Vault.from_key(key).encrypt_bytes(bytes(10_000))
    with pytest.raises(PayloadTooLargeError, match="raise max_bytes"):
        Vault.from_key(key, max_bytes=9_000).decrypt_bytes(token)


@given(st.text(max_size=2_000))
def test_compressed_and_plain_are_told_apart(value: str) -> None:
    """Reading needs no flag: gzip's mark begins no JSON text."""
    assert VAULT.decrypt(VAULT.encrypt(value, compress=True)) == value
    assert VAULT.decrypt(VAULT.encrypt(value)) == value


def test_compression_is_off_by_default_and_is_gzip() -> None:
    """It makes a repetitive payload small, and others can read it with gzip."""
    key = Fernet.generate_key()
    vault, value = Vault.from_key(key), {"items": ["the same again"] * 200}
    packed = vault.encrypt(value, compress=True)
    assert len(packed) < len(vault.encrypt(value)) / 10
    assert json.loads(gzip.decompress(Fernet(key).decrypt(packed))) == value


def test_a_compressed_bomb_stops_at_the_limit() -> None:
    """A token of few bytes can't fill the memory of its reader."""
    key = Fernet.generate_key()
    bomb = Fernet(key).encrypt(gzip.compress(b'"' + b"0" * 50_000_000 + b'"'))
    with pytest.raises(PayloadTooLargeError, match="expands beyond 1048576"):
        Vault.from_key(key).decrypt(bomb)


@pytest.mark.parametrize("cut", [5, 15])
def test_broken_compression_is_an_error_of_ours(cut: int) -> None:
    """Cut gzip data, which only a writer with the key could have made, is named."""
    data = gzip.compress(b'"some text that is long enough to be cut"')[:cut]
    with pytest.raises(PayloadError, match="marked as compressed"):
        VAULT.decrypt(VAULT.encrypt_bytes(data))
    assert VAULT.decrypt_bytes(VAULT.encrypt_bytes(data)) == data
