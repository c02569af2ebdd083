"""One S3 store: a bucket and a prefix, and the few verbs that everything else is made of.

Guarantee that all rests on: `put_if_absent`. Of any number of writers of one key exactly one wins, and each learns whether
it was itself, even where the response was lost on the way and botocore sent the request again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tasks.errors import ConflictError, DeniedError, InputError, NotFoundError, UnreachableError
from tasks.settings import StoreConfig
from tasks.storage import embedded

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_BAD_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestExpired"}
_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchUpload", "416", "InvalidRange"}  # the last two: no such bytes of it
_TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


_BATCH = 1000  # what S3 deletes in one request


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a list says of an object: its key without the store's prefix, bytes, and when the server got it."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    id: str
    started: datetime


@dataclass(frozen=True, slots=True)
class Store:
    """A place for models. Thread-safe; not to be used across a fork.

    Attributes:
        client: The boto3 client, configured once.
        bucket: Bucket name.
        prefix: Key prefix, empty or ending with a slash.
        endpoint: For messages; None means AWS itself.
    """

    client: S3Client
    bucket: str
    prefix: str
    endpoint: str | None

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`, without a slash at the end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def uri(self, key: str) -> str:
        """`s3://` address of a key."""
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def get(self, key: str) -> bytes:
        """A small object's bytes.

        Raises:
            NotFoundError: There is no such key.
        """
        with self.errors(key):
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()

    def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of an object; None where there is none."""
        try:
            with self.errors(key):
                return self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)["ContentLength"]
        except NotFoundError:
            return None

    def put(self, key: str, body: bytes) -> None:
        """Write a small object, whatever was there. Versions, verdicts and aliases are never written this way."""
        with self.errors(key):
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body)

    def put_if_absent(self, key: str, body: bytes) -> None:
        """Write a small object, unless the key is taken.

        `body` must be unique to its writer (hold an id of its own): a 412 may be the answer to botocore's own second
        attempt after the response to the first was lost, and only the stored bytes tell whose write won.

        Raises:
            ConflictError: Somebody else holds the key; nothing was changed.
        """
        try:
            with self.errors(key):
                self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body, IfNoneMatch="*")
        except ConflictError:
            if self.get(key) != body:
                raise

    def keys(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Keys below a prefix in their order, without the store's own prefix; at most `limit`."""
        found: list[str] = []
        for page in self._pages(prefix, limit=limit):
            found += [item["Key"].removeprefix(self.prefix) for item in page.get("Contents", [])]
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below a prefix."""
        names: list[str] = []
        for page in self._pages(prefix, delimiter="/"):
            names += [
                item["Prefix"].removeprefix(self.prefix + prefix).rstrip("/") for item in page.get("CommonPrefixes", [])
            ]
        return names

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """All below a prefix, a thousand a request, in the server's own order: SeaweedFS puts `a/` before `a-b/`."""
        for page in self._pages(prefix):
            for item in page.get("Contents", []):
                yield StoredObject(item["Key"].removeprefix(self.prefix), item["Size"], item["LastModified"])

    def now(self) -> datetime:
        """The server's clock, by which it also dates its objects.

        Raises:
            UnreachableError: It tells no time.
        """
        with self.errors("/"):
            answer = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if not date:
            raise UnreachableError(
                f"The store {self.url} tells no time (no Date in its answers), so nothing in it has an age."
            )
        return parsedate_to_datetime(date)

    def delete(self, key: str) -> None:
        """Remove a key; no error where it is gone already."""
        with self.errors(key):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def delete_all(self, keys: Sequence[str]) -> None:
        """Remove keys, a thousand a request, in no order; no error for those that are gone already."""
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            try:
                with self.errors(batch[0]):
                    answer = self.client.delete_objects(
                        Bucket=self.bucket,
                        Delete={"Objects": [{"Key": self.prefix + key} for key in batch], "Quiet": True},
                    )
                left = [error["Key"].removeprefix(self.prefix) for error in answer.get("Errors", [])]
            except DeniedError:
                raise
            except UnreachableError:
                # Servers of before 2025 want a Content-MD5 that boto3 no longer sends (FACTS.md).
                left = list(batch)
            for key in left:
                self.delete(key)

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """Multipart uploads below a prefix that were neither completed nor aborted."""
        with self.errors(prefix or "/"):
            pages = self.client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for item in page.get("Uploads", []):
                    yield Upload(item["Key"].removeprefix(self.prefix), item["UploadId"], item["Initiated"])

    def parts(self, upload: Upload) -> list[StoredObject]:
        """The parts of an upload that have arrived; none where it was completed or aborted meanwhile."""
        found: list[StoredObject] = []
        try:
            with self.errors(upload.key):
                pages = self.client.get_paginator("list_parts")
                for page in pages.paginate(Bucket=self.bucket, Key=self.prefix + upload.key, UploadId=upload.id):
                    found += [StoredObject(upload.key, p["Size"], p["LastModified"]) for p in page.get("Parts", [])]
        except NotFoundError:
            return []
        return found

    def abort(self, upload: Upload) -> None:
        """Give an upload up and free its parts; no error where it ended already."""
        try:
            with self.errors(upload.key):
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.prefix + upload.key, UploadId=upload.id)
        except NotFoundError:
            return

    def errors(self, what: str) -> _Translate:
        """Turn botocore's errors about `what` into ours."""
        return _Translate(self, what)

    def _pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> Iterator[Any]:
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        if delimiter:
            arguments["Delimiter"] = delimiter
        if limit is not None:
            arguments["MaxKeys"] = min(limit, 1000)
        with self.errors(prefix or "/"):
            yield from self.client.get_paginator("list_objects_v2").paginate(**arguments)


class _Translate:
    """Context manager that maps botocore's errors once, with the subject in the message."""

    def __init__(self, store: Store, what: str) -> None:
        self._store, self._what = store, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from botocore import exceptions as boto  # 0.2 s

        if isinstance(error, boto.ClientError):
            raise self._client_error(error) from error
        if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
            raise DeniedError(
                f"No AWS credentials for {self._store.url}: {error}. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY."
            ) from error
        if isinstance(error, boto.BotoCoreError):
            at = self._store.endpoint or "AWS"
            raise UnreachableError(f"The store {self._store.url} at {at} does not answer: {error}") from error

    def _client_error(self, error: Any) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = error.response.get("Error", {}).get("Message") or code
        store, what = self._store, self._what
        if code == "NoSuchBucket":
            return NotFoundError(f"There is no bucket {store.bucket!r} at {store.endpoint or 'AWS'}. Create it first.")
        if code in _ABSENT:
            return NotFoundError(f"There is no {store.uri(what)}.")
        if code in _TAKEN:
            return ConflictError(f"{store.uri(what)} was written by somebody else first.")
        if code in _BAD_CREDENTIALS:
            return DeniedError(f"The store {store.url} refuses the credentials ({code}). Check AWS_PROFILE or the keys.")
        if code in _DENIED:
            return DeniedError(f"The store {store.url} denies {error.operation_name} on {what!r} to these credentials.")
        return UnreachableError(f"The store {store.url} failed at {error.operation_name} on {what!r}: {code} {message}")


def open_store(config: StoreConfig | None = None, credentials: dict[str, str] | None = None) -> Store:
    """The configured store, or the embedded one, started if need be.

    Args:
        config: URL of the store; by default the environment's.
        credentials: Arguments of `boto3.Session`, and `endpoint_url` (from a Prefect block); by default the AWS SDK's own
            chain.

    Raises:
        InputError: The store's URL is malformed, or the AWS profile does not exist.
        UnreachableError: The embedded server did not start.
    """
    location = (config or StoreConfig()).location()
    if location is None:
        access = embedded.running().access
        return Store(
            _client(access.endpoint, {"aws_access_key_id": access.access_key, "aws_secret_access_key": access.secret_key,
                                      "region_name": "us-east-1"}),
            access.bucket,
            "",
            access.endpoint,
        )  # fmt: skip
    bucket, prefix = location
    session = dict(credentials or {})
    client = _client(session.pop("endpoint_url", None), session)
    return Store(client, bucket, f"{prefix}/" if prefix else "", client.meta.endpoint_url)


def check_store(store: Store) -> None:
    """Find out, before anything costs time, whether the store answers, lets us write, and keeps put-if-absent.

    Costs three requests, plus one that removes the probe.

    Raises:
        UnreachableError: It doesn't, with the reason.
        NotFoundError: There is no such bucket.
    """
    key = f".roundtrip/probe-{random.getrandbits(64):016x}"
    store.put_if_absent(key, b"first")
    try:
        store.put_if_absent(key, b"second")
    except ConflictError:
        return
    finally:
        store.delete(key)
    raise DeniedError(
        f"The store at {store.endpoint} ignores `If-None-Match: *`: it overwrote an object that it was asked to keep. "
        "Versions could be lost on it. Use a server that honours it: Amazon S3, Ceph RGW, MinIO, SeaweedFS, R2."
    )


def _client(endpoint: str | None, session: dict[str, Any]) -> S3Client:
    import boto3  # 0.3 s
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"} if endpoint or _custom_endpoint() else {},
        # The defaults add trailing CRC checksums that Ceph refuses over TLS; we send SHA-256 ourselves.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # `standard` waits with jitter between attempts.
        retries={"mode": "standard", "total_max_attempts": 6},
        connect_timeout=5,
        read_timeout=120,
        tcp_keepalive=True,
        max_pool_connections=THREADS + 4,
    )
    try:
        return boto3.session.Session(**session).client("s3", endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise InputError(f"The AWS configuration can't be used: {error}") from error


def _custom_endpoint() -> bool:
    import os

    return bool(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))
