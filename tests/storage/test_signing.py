# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Signatures against those of AWS, Azure and Google's own clients, and against published values."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from azure.storage.blob import BlobSasPermissions, generate_blob_sas
from azure.storage.blob import _shared_access_signature as sdk_sas
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.cloud import storage as google
from google.cloud.storage._signing import generate_signed_url_v4
from google.oauth2 import service_account

from forktex_core.storage import (
    AzureCredentials,
    CloudFrontSigner,
    GCSCredentials,
    PublicAccess,
    S3Credentials,
    StorageClient,
)
from forktex_core.storage.signing import azure, gcs_v4, sigv4, v4

# The example of AWS's S3 documentation, "Authenticating Requests: Using Query Parameters".
EXAMPLE = S3Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
MOMENT = datetime(2013, 5, 24, tzinfo=UTC)
DATES = {"x-goog-date", "x-amz-date"}


def test_the_published_presigned_url() -> None:
    """The documented example has the documented signature."""
    url = sigv4.presign(
        "GET", host="examplebucket.s3.amazonaws.com", path="/test.txt", credentials=EXAMPLE,
        region="us-east-1", moment=MOMENT, seconds=86400,
    )  # fmt: skip
    assert url.endswith(
        "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_the_published_header_signature() -> None:
    """The documented GET with a range has the documented signature in its header."""
    headers = sigv4.sign_headers(
        "GET", host="examplebucket.s3.amazonaws.com", path="/test.txt", query="",
        headers={"range": "bytes=0-9"},
        digest="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        credentials=EXAMPLE, region="us-east-1", moment=MOMENT,
    )  # fmt: skip
    assert headers["authorization"].endswith(
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


@pytest.mark.parametrize("key", ["plain.txt", "a b/ü~'(1)+&=?#%.pdf", "日本/語"])
@pytest.mark.parametrize("token", [None, "session/token+="])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_presigned_like_botocore(key: str, token: str | None, method: str) -> None:
    """botocore's query signer gives the same signature for the same request and moment."""
    credentials = S3Credentials("AK", "secret", token)
    headers = {"content-type": "text/plain"} if method == "PUT" else {}
    parameters = (
        {} if method == "PUT" else {"response-content-disposition": 'attachment; filename="x"'}
    )
    ours = sigv4.presign(
        method,
        host="s3.test:9000",
        path=f"/bucket/{key}",
        credentials=credentials,
        region="eu-west-1",
        moment=MOMENT,
        seconds=600,
        parameters=parameters,
        headers=headers,
    )
    encoded = v4.encode_path(f"/bucket/{key}")
    query = v4.encode_query(parameters)
    request = AWSRequest(
        method, f"http://s3.test:9000{encoded}" + (f"?{query}" if query else ""), headers=headers
    )
    signer = S3SigV4QueryAuth(Credentials("AK", "secret", token), "s3", "eu-west-1", expires=600)
    request.context["timestamp"] = "20130524T000000Z"
    theirs = botocore_signature(signer, request)
    assert parse_qs(urlsplit(ours).query)["X-Amz-Signature"] == [theirs]


def botocore_signature(signer: S3SigV4QueryAuth, request: AWSRequest) -> str:
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    # botocore takes the moment from the request's context; X-Amz-Date is what it signs.
    return signer.signature(signer.string_to_sign(request, canonical), request)


@pytest.mark.parametrize("token", [None, "session/token+="])
def test_headers_signed_like_botocore(token: str | None) -> None:
    """botocore's header signer gives the same signature, values with many spaces and a token
    included."""
    given = {"content-type": "text/plain", "x-amz-meta-a": "  two   spaces "}
    ours = sigv4.sign_headers(
        "PUT", host="s3.test:9000", path="/bucket/k", query="", headers=given,
        digest="UNSIGNED-PAYLOAD", credentials=S3Credentials("AK", "secret", token),
        region="eu-west-1", moment=MOMENT,
    )  # fmt: skip
    assert ours.get("x-amz-security-token") == token
    request = AWSRequest("PUT", "http://s3.test:9000/bucket/k", headers=given)
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    request.headers["X-Amz-Date"] = "20130524T000000Z"
    if token:
        request.headers["X-Amz-Security-Token"] = token
    request.context["timestamp"] = "20130524T000000Z"
    signer = S3SigV4Auth(Credentials("AK", "secret", token), "s3", "eu-west-1")
    canonical = signer.canonical_request(request)
    theirs = signer.signature(signer.string_to_sign(request, canonical), request)
    assert ours["authorization"].endswith(f"Signature={theirs}")


@pytest.mark.parametrize("key", ["plain.txt", "a b/ü~+&.pdf"])
@pytest.mark.parametrize("write", [False, True])
def test_azure_sas_like_the_sdk(key: str, write: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure's own SDK signs the same SAS, given the same version of the protocol."""
    monkeypatch.setattr(sdk_sas, "X_MS_VERSION", azure.VERSION)
    credentials = AzureCredentials("account", base64.b64encode(b"k" * 32).decode())
    expires = MOMENT + timedelta(hours=1)
    ours = azure.sas_query(
        credentials=credentials,
        container="box",
        key=key,
        permissions="cw" if write else "r",
        start=MOMENT,
        expires=expires,
        content_disposition="" if write else "attachment",
        content_type="" if write else "text/x",
    )
    theirs = generate_blob_sas(
        "account",
        "box",
        key,
        account_key=credentials.account_key,
        start=MOMENT,
        expiry=expires,
        protocol="https",
        permission=BlobSasPermissions(read=not write, create=write, write=write),
        **({} if write else {"content_disposition": "attachment", "content_type": "text/x"}),
    )
    assert parse_qs(ours) == parse_qs(theirs)


@pytest.fixture(scope="module")
def rsa_pem() -> tuple[rsa.RSAPrivateKey, str]:
    """A throw-away key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return key, pem


@pytest.mark.parametrize("key", ["plain.txt", "a b/ü~+&.pdf"])
@pytest.mark.parametrize("write", [False, True])
def test_google_v4_like_the_sdk(
    rsa_pem: tuple[rsa.RSAPrivateKey, str], key: str, write: bool
) -> None:
    """Google's own client gives the same URL for the same key and moment."""
    _, pem = rsa_pem
    credentials = GCSCredentials("me@project.iam.gserviceaccount.com", pem)
    headers = {"content-type": "text/plain"} if write else {}
    ours = "https://storage.googleapis.com" + gcs_v4.presign(
        "PUT" if write else "GET",
        host="storage.googleapis.com",
        path=f"/box/{key}",
        credentials=credentials,
        moment=MOMENT,
        seconds=600,
        headers=headers,
        parameters={} if write else {"response-content-disposition": "attachment"},
    )
    signer = service_account.Credentials.from_service_account_info(
        {
            "client_email": credentials.client_email,
            "private_key": pem,
            "token_uri": "https://localhost/token",
        }
    )
    theirs = generate_signed_url_v4(
        signer,
        resource=v4.encode_path(f"/box/{key}"),
        expiration=600,
        api_access_endpoint="https://storage.googleapis.com",
        method="PUT" if write else "GET",
        content_type="text/plain" if write else None,
        response_disposition=None if write else "attachment",
        _request_timestamp="20130524T000000Z",
    )
    mine, sdk = parse_qs(urlsplit(ours).query), parse_qs(urlsplit(theirs).query)
    assert mine.pop("X-Goog-Signature") == sdk.pop("X-Goog-Signature")
    assert mine == sdk


def google_bucket(pem: str) -> Any:
    """Google's own client with a service account's key."""
    info = {
        "client_email": "me@project.iam.gserviceaccount.com",
        "private_key": pem,
        "token_uri": "https://localhost/token",
    }
    return google.Client("p", service_account.Credentials.from_service_account_info(info))


@pytest.mark.parametrize("kind", ["image/png", None])
async def test_google_post_policy_like_the_sdk(
    rsa_pem: tuple[rsa.RSAPrivateKey, str], kind: str | None
) -> None:
    """The form of a browser upload states what Google's own client states, proved by the key."""
    key, pem = rsa_pem
    credentials = GCSCredentials("me@project.iam.gserviceaccount.com", pem)
    async with StorageClient("gs://box", credentials, clock_skew=0) as ours:
        form = await ours.signed_url(
            "up/a b.png", PublicAccess.write, content_type=kind, max_bytes=1000
        )
    conditions: list[Any] = [["content-length-range", 0, 1000]]
    fields = {"Content-Type": kind} if kind else {}
    theirs = google_bucket(pem).generate_signed_post_policy_v4(
        "box", "up/a b.png", expiration=timedelta(minutes=10), conditions=conditions, fields=fields
    )
    assert set(form.fields) == set(theirs["fields"])
    assert conditions_of(form.fields) == conditions_of(theirs["fields"])
    signature = bytes.fromhex(form.fields["x-goog-signature"])
    key.public_key().verify(
        signature, form.fields["policy"].encode(), padding.PKCS1v15(), hashes.SHA256()
    )


@pytest.mark.parametrize("token", [None, "session/token+="])
@pytest.mark.parametrize("kind", ["image/png", "image/*", None])
async def test_s3_post_policy_like_the_sdk(kind: str | None, token: str | None) -> None:
    """The form of a browser upload has the fields and conditions of boto3's, a token included."""
    keys = S3Credentials("AK", "secret", token)
    async with StorageClient("s3://my-box", keys, clock_skew=0) as ours:
        form = await ours.signed_url(
            "up/a b.png", PublicAccess.write, content_type=kind, max_bytes=1000
        )
    client = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="AK", aws_secret_access_key="secret",
        aws_session_token=token, config=Config(signature_version="s3v4"),
    )  # fmt: skip
    conditions: list[Any] = [["content-length-range", 0, 1000]]
    fields = {}
    if kind == "image/*":
        conditions.append(["starts-with", "$Content-Type", "image/"])
    elif kind:
        conditions.append({"Content-Type": kind})
        fields = {"Content-Type": kind}
    theirs = client.generate_presigned_post("my-box", "up/a b.png", fields, conditions, 600)
    assert set(form.fields) == set(theirs["fields"])
    assert conditions_of(form.fields) == conditions_of(theirs["fields"])
    assert form.fields.get("x-amz-security-token") == token


def conditions_of(fields: dict[str, str]) -> set[str]:
    """What a policy demands, without the moment at which it was made."""
    conditions = json.loads(base64.b64decode(fields["policy"]))["conditions"]
    return {json.dumps(c) for c in conditions if not (isinstance(c, dict) and c.keys() & DATES)}


def test_cloudfront_verifies_with_the_public_key(rsa_pem: tuple[rsa.RSAPrivateKey, str]) -> None:
    """The policy that CloudFront rebuilds from the URL verifies, and no other does."""
    key, pem = rsa_pem
    url = CloudFrontSigner("KPAIR", pem).sign("https://cdn.test/a%20b?x=1", expires=MOMENT)
    query = parse_qs(urlsplit(url).query)
    signature = base64.b64decode(query["Signature"][0].translate(str.maketrans("-_~", "+=/")))
    moment = int(MOMENT.timestamp())
    policy = (
        '{"Statement":[{"Resource":"https://cdn.test/a%20b?x=1","Condition":{"DateLessThan":'
        f'{{"AWS:EpochTime":{moment}}}}}}}]}}'
    )
    assert json.loads(policy)
    key.public_key().verify(signature, policy.encode(), padding.PKCS1v15(), hashes.SHA1())
    with pytest.raises(InvalidSignature):
        key.public_key().verify(
            signature, policy.replace("a%20b", "c").encode(), padding.PKCS1v15(), hashes.SHA1()
        )
    assert query["Key-Pair-Id"] == ["KPAIR"]
    assert "secret" not in repr(CloudFrontSigner("K", "secret"))


def test_the_public_client_builds_the_same_host() -> None:
    """boto3's own presigned URL names the same host and path as ours for a bucket of AWS."""
    client = boto3.client(
        "s3", region_name="eu-west-1", aws_access_key_id="AK", aws_secret_access_key="s"
    )
    url = urlsplit(
        client.generate_presigned_url("get_object", Params={"Bucket": "my-bucket", "Key": "k"})
    )
    from forktex_core.storage.backends.address import Address

    address = Address.of("https://s3.eu-west-1.amazonaws.com", "my-bucket", virtual=True)
    assert address.path("k") == url.path
    assert url.netloc in (address.host, "my-bucket.s3.amazonaws.com")
    assert address.host == "my-bucket.s3.eu-west-1.amazonaws.com"
