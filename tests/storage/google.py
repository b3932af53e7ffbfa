# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Google's dialect of the XML API in front of a real S3 server.

No server that a registry offers speaks it whole. It is S3's but for some headers and rules, so that
this gateway says in S3's words what a client of Google says, and holds it to the rules that Google
documents: a bearer token, a project for a new bucket, generations in place of ETags in conditions,
no condition with uploads in parts, and errors where S3 has none (deleting what is not there,
writing where no bucket is). Objects, ranges, listings, parts and races are the server's.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, quote, unquote, urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from forktex_core.storage import GCSCredentials
from tests.storage.gateway import Gateway, Message, gateway
from tests.storage.servers import S3

ACCOUNT = GCSCredentials("me@project.iam.gserviceaccount.com", token="the-token")
CONDITION = "x-goog-if-generation-match"
OURS = {"authorization", "host", "x-goog-project-id", CONDITION}


@contextlib.asynccontextmanager
async def google_gateway(server: S3) -> AsyncIterator[Gateway]:
    """A gateway that a client with `ACCOUNT` takes for Google."""
    async with gateway(server.url) as here:
        dialect = Dialect(server)
        here.before, here.after = dialect.ask, dialect.answer
        yield here


class Dialect:
    """What one gateway knows: which generation is which ETag."""

    def __init__(self, server: S3) -> None:
        self._server, self._boto = server, server.boto
        self._etags: dict[str, str] = {}

    async def ask(self, message: Message) -> None:
        """Refuse a request as Google would, or say it in S3's words."""
        given = {name.lower(): value for name, value in message.headers.items()}
        path, _, query = message.path.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        wrong = await self._wrong(message.method, bucket, key, pairs, given)
        if wrong is not None:
            message.refusal, code = wrong
            message.answer = f"<Error><Code>{code}</Code><Message/></Error>".encode()
            return
        path = quote(unquote(path), safe="/-_.~")
        message.path = path + (f"?{urlencode(pairs, quote_via=quote)}" if query else "")
        message.headers = self._signed(message, self._translated(given))

    async def _wrong(
        self, method: str, bucket: str, key: str, pairs: dict[str, str], given: dict[str, str]
    ) -> tuple[int, str] | None:
        if given.get("authorization") != f"Bearer {ACCOUNT.token}":
            return 403, "AccessDenied"
        if not key:
            if method == "PUT" and not pairs and given.get("x-goog-project-id") != "project":
                return 400, "MissingProject"
            return None
        if method in ("PUT", "POST", "DELETE") and await self._etag(bucket, "") is None:
            return 404, "NoSuchBucket"
        if method == "DELETE" and not pairs and await self._etag(bucket, key) is None:
            return 404, "NoSuchKey"
        return await self._condition(bucket, key, pairs, given)

    async def _condition(
        self, bucket: str, key: str, pairs: dict[str, str], given: dict[str, str]
    ) -> tuple[int, str] | None:
        generation = given.get(CONDITION)
        if generation is None:
            return None
        if pairs:
            return 400, "NotImplemented"
        wanted = "" if generation == "0" else self._etags.get(generation, "unknown")
        if wanted != "unknown" and "x-goog-copy-source" not in given:
            return None  # the server decides
        there = await self._etag(bucket, key)
        return None if there == (wanted or None) else (412, "PreconditionFailed")

    async def _etag(self, bucket: str, key: str) -> str | None:
        """The ETag of what is there; of a bucket the empty string."""
        arguments = {"Bucket": bucket, "Key": key} if key else {"Bucket": bucket}
        look = self._boto.head_object if key else self._boto.head_bucket
        try:
            return str((await asyncio.to_thread(look, **arguments)).get("ETag", ""))
        except self._boto.exceptions.ClientError:
            return None

    def _translated(self, given: dict[str, str]) -> dict[str, str]:
        headers = {
            name.replace("x-goog-", "x-amz-"): value
            for name, value in given.items()
            if name not in OURS
        }
        generation = given.get(CONDITION)
        if generation is not None and "x-amz-copy-source" not in headers:
            etag = self._etags.get(generation, "")
            headers |= {"if-none-match": "*"} if generation == "0" else {"if-match": etag}
        return headers

    def _signed(self, message: Message, headers: dict[str, str]) -> dict[str, str]:
        request = AWSRequest(
            message.method, self._server.url + message.path, headers=headers, data=message.body
        )
        keys = Credentials(self._server.access_key, self._server.secret_key)
        S3SigV4Auth(keys, "s3", "us-east-1").add_auth(request)
        return dict(request.headers)

    async def answer(self, message: Message) -> None:
        """Say an answer in Google's words."""
        headers = {
            name.lower().replace("x-amz-meta-", "x-goog-meta-"): value
            for name, value in message.answer_headers.items()
        }
        headers = {name: value for name, value in headers.items() if "x-amz-" not in name}
        etag = headers.get("etag", "").strip('"')
        if etag:
            generation = str(int(etag.partition("-")[0][:15], 16) + len(etag))
            self._etags[generation] = f'"{etag}"'
            headers["x-goog-generation"] = generation
        if len(etag) == 32:
            headers["x-goog-hash"] = f"md5={base64.b64encode(bytes.fromhex(etag)).decode()}"
        message.answer_headers = headers
