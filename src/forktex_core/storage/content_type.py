# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which content type an object has, and how a browser should treat it.

The signatures follow the WHATWG MIME Sniffing Standard where it has one, else the format's own
specification. Bytes decide before the name, except that a container (ZIP, XML, plain text) is
refined by the name: a .docx is a ZIP, and its name says more.
"""

import mimetypes
import re
from urllib.parse import quote

SNIFFED_BYTES = 512
DEFAULT = "application/octet-stream"

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP", "image/webp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS\x00", "application/ogg"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypqt  ", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
    (0, b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
    (0, b"\x00asm", "application/wasm"),
)
_CONTAINERS = frozenset(
    (
        "application/zip",
        "application/gzip",
        "application/ogg",
        "application/xml",
        "text/plain",
        "video/mp4",
        "video/webm",
    )
)
_HTML = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body|script"
    rb"|iframe|h1|div|p|a|table|title|style)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_SVG = re.compile(
    rb"\s*(?:<\?xml[^>]*\?>|<!--.*?-->|<!DOCTYPE svg[^>]*>|\s)*<svg[\s>]", re.IGNORECASE | re.DOTALL
)
_XML = re.compile(rb"\s*<\?xml[\s?]", re.IGNORECASE)
_NAMES = {  # what the interpreter's table lacks or differs in between platforms
    ".avif": "image/avif",
    ".csv": "text/csv",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".js": "text/javascript",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".parquet": "application/vnd.apache.parquet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}
# Types in which a browser runs code: served inline, they run with the rights of the site.
_ACTIVE = frozenset(
    (
        "text/html",
        "image/svg+xml",
        "application/xhtml+xml",
        "text/xml",
        "application/xml",
        "text/javascript",
        "application/javascript",
    )
)
_TABLE = mimetypes.MimeTypes()  # built in only: the files of the operating system differ by host


def guess_content_type(name: str, head: bytes = b"") -> str:
    """Return the content type of an object by its name and its first bytes (512 at most)."""
    by_name = _by_name(name)
    by_bytes = _by_bytes(head[:SNIFFED_BYTES]) if head else None
    if by_bytes is None or (by_bytes in _CONTAINERS and by_name is not None):
        return by_name or _plain_text(head) or DEFAULT
    return by_bytes


def _by_name(name: str) -> str | None:
    _, dot, ending = name.rpartition("/")[2].lstrip(".").rpartition(".")
    suffix = (dot + ending).lower()
    return _NAMES.get(suffix) or _TABLE.types_map[True].get(suffix)


def _by_bytes(head: bytes) -> str | None:
    for offset, signature, content_type in _SIGNATURES:
        if head.startswith(signature, offset):
            return content_type
    for pattern, content_type in (
        (_SVG, "image/svg+xml"),
        (_HTML, "text/html"),
        (_XML, "application/xml"),
    ):
        if pattern.match(head):
            return content_type
    return None


def _plain_text(head: bytes) -> str | None:
    """Text if it decodes as UTF-8, a character cut at the end aside, and holds no control
    characters.
    """
    if not head or any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head[:SNIFFED_BYTES]):
        return None
    try:
        head[:SNIFFED_BYTES].decode()
    except UnicodeDecodeError as error:
        if error.start < min(len(head), SNIFFED_BYTES) - 3:
            return None
    return "text/plain"


def is_active(content_type: str) -> bool:
    """Tell whether a browser would run code from an object of this type (HTML, SVG, XML,
    JavaScript).
    """
    return content_type.partition(";")[0].strip().lower() in _ACTIVE


def content_disposition(filename: str, *, attachment: bool = True) -> str:
    """Return a Content-Disposition header that every browser reads (RFC 6266, RFC 8187)."""
    kind = "attachment" if attachment else "inline"
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", filename)
    encoded = quote(filename, safe="!#$&+-.^_`|~")
    return f'{kind}; filename="{plain}"' + (
        f"; filename*=UTF-8''{encoded}" if plain != filename else ""
    )
