# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Values to bytes and back: plain JSON, JSON by type, text, bytes; optional compression.

No error that leaves through `sanitized` holds a value. The parsers' own errors do (the document in
`JSONDecodeError.doc`, the inputs in pydantic's), and so do the frames of their tracebacks.
"""

import json
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from forktex_core.vault.errors import PayloadError, PayloadTooLargeError, VaultError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"  # Begins neither a JSON text nor any UTF-8 text, so it marks compression.


class Codec(Protocol):
    """Turns values of one kind into bytes and back; `raw` ones are never compressed."""

    raw: bool

    def encode(self, value: Any) -> bytes:
        """Encode a value, or raise `PayloadError`."""

    def decode(self, data: bytes) -> Any:
        """Decode bytes, or raise `PayloadError`."""


class JsonCodec:
    """Any JSON value, as the `json` module reads and writes it (keys become str, tuples lists)."""

    raw = False

    _dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    _loads = json.JSONDecoder().decode

    def encode(self, value: Any) -> bytes:
        """Encode a JSON value in UTF-8."""
        try:
            return self._dumps(value).encode()
        except UnicodeEncodeError:  # A lone surrogate, which JSON can only escape.
            return json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise PayloadError(_json_problem(exc)) from None

    def decode(self, data: bytes) -> Any:
        """Decode a JSON text."""
        try:
            return self._loads(data.decode())
        except (ValueError, RecursionError):
            msg = f"the payload ({len(data)} bytes) isn't JSON; read it with decrypt_bytes"
            raise PayloadError(msg) from None


def _json_problem(exc: Exception) -> str:
    found = str(exc).partition("Object of type ")[2].partition(" ")[0]
    if found:
        return (
            f"a payload is a JSON value, and {found} is none: give the type, as in "
            "vault.encrypt(value, Model) or EncryptedJSON(vault, Model)"
        )
    return "a payload is a JSON value: no NaN or infinity, no cycle, keys of text"


class TypedCodec:
    """Values of one type that pydantic knows (models, dataclasses, datetime, UUID, Decimal, …)."""

    raw = False

    def __init__(self, type_: Any) -> None:
        from pydantic import ConfigDict, TypeAdapter

        self._name = getattr(type_, "__name__", str(type_))
        self._fields = frozenset(getattr(type_, "model_fields", ()))
        config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        self._adapter: TypeAdapter[Any] = TypeAdapter(
            type_, config=config if type_ is bytes else None
        )
        self._may_hide = _has_secrets(self._adapter)

    def encode(self, value: Any) -> bytes:
        """Validate a value of the type and write it as JSON."""
        from pydantic import ValidationError
        from pydantic_core import PydanticSerializationError

        try:
            valid = self._adapter.validate_python(value)
            data = self._adapter.dump_json(valid, by_alias=True, warnings="error")
            if not self._may_hide or self._adapter.validate_json(data) == valid:
                return data
            problem = (
                "has a SecretStr or SecretBytes, which pydantic writes as asterisks: the secret "
                "would be lost. Reveal it when it is written, by a method of the model: "
                "@field_serializer('name', when_used='json') returning value.get_secret_value()"
            )
        except ValidationError as exc:
            problem = f"doesn't fit {self._name} ({self._complaints(exc)})"
        except PydanticSerializationError:
            problem = (
                f"can't be written as {self._name} (a field holds what its type doesn't allow, or "
                "bytes that aren't UTF-8: set ser_json_bytes and val_json_bytes to 'base64')"
            )
        msg = f"this {type(value).__name__} {problem}"
        raise PayloadError(msg)

    def decode(self, data: bytes) -> Any:
        """Read JSON and validate it as the type."""
        from pydantic import ValidationError

        try:
            return self._adapter.validate_json(data)
        except ValidationError as exc:
            msg = (
                f"the payload doesn't fit {self._name} ({self._complaints(exc)}); was it written "
                "by an older version of the type? Give new fields a default, or read it untyped"
            )
            raise PayloadError(msg) from None

    def _complaints(self, exc: "ValidationError") -> str:
        """Name kinds of errors and the type's own fields; other names and all inputs are data."""
        found = []
        for error in exc.errors(include_input=False, include_context=False, include_url=False):
            field = error["loc"][0] if error["loc"] else None
            kind = error["type"]
            found.append(f"{field}: {kind}" if field in self._fields else kind)
        return ", ".join(sorted(set(found)))


def _has_secrets(adapter: "TypeAdapter[Any]") -> bool:
    """Tell whether pydantic may write asterisks: such fields are 'writeOnly' in its schema."""
    from pydantic.errors import PydanticInvalidForJsonSchema

    try:
        schema = adapter.json_schema(mode="serialization")
    except PydanticInvalidForJsonSchema:  # A type of the user's own, that he serialises himself.
        return False
    return '"writeOnly": true' in json.dumps(schema, default=str)


class TextCodec:
    """A str, in UTF-8."""

    raw = False

    def encode(self, value: Any) -> bytes:
        """Encode text."""
        if not isinstance(value, str):
            msg = f"EncryptedText takes a str, not {type(value).__name__}"
            raise PayloadError(msg)
        try:
            return value.encode()
        except UnicodeEncodeError:
            msg = "this text holds a lone surrogate, which UTF-8 can't; store it with EncryptedJSON"
            raise PayloadError(msg) from None

    def decode(self, data: bytes) -> str:
        """Decode text."""
        try:
            return data.decode()
        except UnicodeDecodeError:
            msg = f"the payload ({len(data)} bytes) isn't UTF-8 text; read it with EncryptedBytes"
            raise PayloadError(msg) from None


class BytesCodec:
    """Bytes as they are."""

    raw = True

    def encode(self, value: Any) -> bytes:
        """Take bytes and the like."""
        if not isinstance(value, bytes | bytearray | memoryview):
            msg = f"EncryptedBytes takes bytes, not {type(value).__name__}"
            raise PayloadError(msg)
        return bytes(value)

    def decode(self, data: bytes) -> bytes:
        """Return the bytes."""
        return data


JSON = JsonCodec()
CODECS = (JsonCodec, TypedCodec, TextCodec, BytesCodec)


def sanitized(work: Callable[..., Any], *args: Any, **options: bool) -> Any:
    """Call something that handles plaintext; whatever it raises comes out without any of it.

    Raises:
        PayloadError: the work's own without cause and inner frames, or instead of any other error.
    """
    try:
        return work(*args, **options)
    except VaultError as exc:
        refusal = exc
    except Exception as exc:  # noqa: BLE001 - a type's, a validator's, a normalize of the user's
        kind = type(exc).__name__
        refusal = PayloadError(f"the value raised {kind}; the message is withheld, it may show it")
    del args
    refusal.__cause__ = refusal.__context__ = None
    raise refusal.with_traceback(None)


def check_size(size: int, limit: int) -> None:
    """Raise `PayloadTooLargeError` for a payload above the limit."""
    if size > limit:
        msg = (
            f"a payload of {size} bytes is above this vault's limit of {limit}; store large "
            "objects encrypted elsewhere, or raise max_bytes"
        )
        raise PayloadTooLargeError(msg, size=size, limit=limit)


def write(codec: Codec, value: Any, limit: int, *, compress: bool) -> bytes:
    """Encode a value of up to `limit` bytes, and compress it when asked for."""
    data = codec.encode(value)
    check_size(len(data), limit)
    return _packed(data) if compress else data


def read(codec: Codec, data: bytes, limit: int) -> Any:
    """Decode a payload, expanding it (up to `limit` bytes) where it was compressed."""
    return codec.decode(data if codec.raw else expand(data, limit))


@lru_cache(256)
def typed(type_: Any) -> TypedCodec:
    """Return the codec of a type, made once."""
    return TypedCodec(type_)


def _packed(data: bytes) -> bytes:
    """Compress to gzip's format, without a time or a name in it."""
    packer = zlib.compressobj(wbits=_GZIP)
    return packer.compress(data) + packer.flush()


def expand(data: bytes, limit: int) -> bytes:
    """Undo the compression; data that wasn't compressed comes back as it is.

    Raises:
        PayloadTooLargeError: more than `limit` bytes come out.
        PayloadError: the compressed data is broken.
    """
    if not data.startswith(_MAGIC):
        return data
    unpacker = zlib.decompressobj(wbits=_GZIP)
    broken = "the payload is marked as compressed and doesn't expand; read it with decrypt_bytes"
    try:
        plain = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise PayloadError(broken) from None
    if not unpacker.eof and len(plain) <= limit:
        raise PayloadError(broken)
    if len(plain) > limit:
        msg = f"the compressed payload expands beyond {limit} bytes; raise the vault's max_bytes"
        raise PayloadTooLargeError(msg, size=limit + 1, limit=limit)
    return plain
