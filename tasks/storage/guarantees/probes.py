"""How the checks of `checks.py` ask: plain requests, requests that are spoilt on their way out, and cleaning up."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

from tasks.errors import ForbiddenError, RoundtripError
from tasks.storage.store import Store


class Lacking(Exception):
    """The store answered, and not as it should."""


class BrokenOff(Exception):
    """Half a request was sent, as it was meant to be."""


def expect(holds: bool, otherwise: str) -> None:
    """Raise `Lacking` where something does not hold."""
    if not holds:
        raise Lacking(otherwise)


def put(store: Store, key: str, body: bytes) -> None:
    """Write an object, unconditionally."""
    store.client.put_object(Bucket=store.bucket, Key=store.prefix + key, Body=body)


def there(store: Store, key: str) -> bool:
    """Whether there is such a key, for credentials that may read it."""
    try:
        return store.exists(key)
    except ForbiddenError:
        return False  # what S3 says of a key that is not there to those who may not list the whole bucket


def get_range(store: Store, key: str, first: int, last: int) -> bytes:
    """Bytes `first` to `last` of an object, both included."""
    with store.errors(key):
        answer = store.client.get_object(Bucket=store.bucket, Key=store.prefix + key, Range=f"bytes={first}-{last}")
        return answer["Body"].read()


def accepts(store: Store, key: str, checksum: dict[str, str]) -> bool:
    """Whether the store takes a body that is not the one the checksum is of."""
    from botocore.exceptions import ClientError

    arguments: Any = {"Bucket": store.bucket, "Key": store.prefix + key, "Body": b"came"} | checksum
    try:
        store.client.put_object(**arguments)
    except ClientError:
        return False
    return True


def in_parts(store: Store, bodies: list[bytes]) -> str:
    """Upload an object in parts, the last part first, and hold it against what was sent."""
    where: Any = {"Bucket": store.bucket, "Key": f"{store.prefix}key"}
    upload = store.client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]

    def send(number: int) -> Any:
        body, checksum = bodies[number - 1], sha256(bodies[number - 1])
        tag = store.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body, ChecksumSHA256=checksum)[
            "ETag"
        ]
        return {"PartNumber": number, "ETag": tag, "ChecksumSHA256": checksum}

    with ThreadPoolExecutor(max_workers=len(bodies)) as pool:
        sent = sorted(pool.map(send, range(len(bodies), 0, -1)), key=lambda part: part["PartNumber"])
    store.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": sent})
    whole = b"".join(bodies)
    expect(store.get("key") == whole, "an object of several parts is not what was sent")
    seam = len(bodies[0])
    expect(get_range(store, "key", seam - 3, seam + 2) == whole[seam - 3 : seam + 3], "a range over two parts is wrong")
    return f"{len(whole) / 2**20:.0f} MiB, {len(bodies)} parts"


def uploads(store: Store) -> list[Any]:
    """Unfinished uploads below the prefix; none where we may not look."""
    from botocore.exceptions import ClientError

    try:
        answer = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix)
    except ClientError:
        return []
    # Not every server heeds the prefix.
    return [u for u in answer.get("Uploads", []) if u["Key"].startswith(store.prefix)]


def refuses(store: Store, change: Callable[[Any], None], what: str) -> str:
    """Whether a read is refused after its request was changed on the way out."""
    from botocore.exceptions import ClientError

    put(store, "key", b"secret")

    def handler(request: Any) -> None:
        change(request)

    with sent_instead(store, "GetObject", handler):
        try:
            store.client.get_object(Bucket=store.bucket, Key=f"{store.prefix}key")
        except ClientError:
            return "refused"
    raise Lacking(f"{what} was answered")


@contextmanager
def sent_instead(store: Store, operation: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Hand signed requests of this check, and of no other that uses the client, to a handler before they go out."""
    from urllib.parse import quote

    mark, event = quote(store.prefix), f"before-send.s3.{operation}"

    def handler(request: Any, **_: Any) -> Any:
        return change(request) if mark in request.url else None

    store.client.meta.events.register(event, handler)
    try:
        yield
    finally:
        store.client.meta.events.unregister(event, handler)


def send_half(request: Any) -> NoReturn:
    """Send a request whose body breaks off in the middle.

    Raises:
        BrokenOff: It did.
    """
    from botocore.exceptions import HTTPClientError
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    class Breaks(io.RawIOBase):
        def __init__(self, body: bytes) -> None:
            self._left = body

        def read(self, size: int = -1) -> bytes:
            if not self._left:
                raise ConnectionAbortedError  # urllib3 passes over a BrokenPipeError
            piece, self._left = self._left[:size], self._left[size:]
            return piece

    whole: bytes = request.body.read()
    request.body = Breaks(whole[: len(whole) // 2])
    verify: Any = os.environ.get("AWS_CA_BUNDLE") or True
    session = URLLib3Session(verify=verify, proxies=get_environ_proxies(request.url), timeout=5)
    try:
        session.send(request)
    except HTTPClientError:
        raise BrokenOff from None  # which botocore, unlike a connection's end, does not try again
    raise Lacking("it took half an upload for a whole one")


def text(header: str | bytes) -> str:
    """A header's text; botocore keeps some as bytes."""
    return header.decode() if isinstance(header, bytes) else header


def sha256(body: bytes) -> str:
    """A body's SHA-256 as S3 takes it."""
    return base64_of(hashlib.sha256(body))


def base64_of(digest: Any) -> str:
    """A digest as S3 takes it."""
    return base64.b64encode(digest.digest()).decode()


def clear(scratch: Store) -> None:
    """Remove what a check left, old versions included; what can't be removed stays, for a check to complain about."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = scratch.client
    try:
        for upload in uploads(scratch):
            client.abort_multipart_upload(Bucket=scratch.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(scratch.delete, scratch.keys("")))
        if client.get_bucket_versioning(Bucket=scratch.bucket).get("Status"):
            old = client.get_paginator("list_object_versions").paginate(Bucket=scratch.bucket, Prefix=scratch.prefix)
            for page in old:
                for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    client.delete_object(Bucket=scratch.bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    except (BotoCoreError, ClientError, RoundtripError):
        return
