"""One S3 store: a bucket and a prefix, and the few verbs that everything else is made of.

Guarantee that all rests on: `put_if_absent`. Of any number of writers of one key exactly one wins, and each learns whether
it was itself, even where the response was lost on the way and botocore sent the request again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tasks.errors import (
    ConflictError,
    DeniedError,
    ForbiddenError,
    NotFoundError,
    RoundtripError,
    UnreachableError,
    UnsafeError,
)
from tasks.settings import StoreConfig
from tasks.storage import embedded
from tasks.storage.connection.client import Access, default_access, first_contact, make_client
from tasks.storage.connection.failures import Translate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_READINGS = 3  # of a body that breaks off or is not what was written
_SHA256 = "sha256"  # the name of the metadata in which a small object's digest stands
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
        """A small object's bytes, as they were written.

        Nothing stands above a manifest, a verdict or a revision that could tell a flipped bit in it, so its SHA-256 stands
        beside it. An object without one, from a tool that loses metadata, is taken as it is.

        Raises:
            NotFoundError: There is no such key.
            UnsafeError: It is not what was written.
        """
        for _ in range(_READINGS):
            body, sha256 = self._read(key)
            if sha256 is None or hashlib.sha256(body).hexdigest() == sha256:
                return body
        raise UnsafeError(f"{self.uri(key)} is not what was written: its SHA-256 is not the one that was stored with it.")

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
        self._put(key, body)

    def put_if_absent(self, key: str, body: bytes) -> None:
        """Write a small object, unless the key is taken.

        `body` must be unique to its writer (hold an id of its own): whether a write that failed was done all the same, only
        the stored bytes tell. A 412 may be the answer to botocore's own second attempt after the response to the first was
        lost, and a server may write and then say 500.

        Raises:
            ConflictError: Somebody else holds the key; nothing was changed.
            UnreachableError: The store failed; the message says where it is not known whether the object was written.
        """
        try:
            self._put(key, body, IfNoneMatch="*")
        except DeniedError:
            raise
        except (ConflictError, UnreachableError) as failure:
            held = self._held(key, failure)
            if held is None:
                raise
            if held != body:
                raise ConflictError(f"{self.uri(key)} was written by somebody else first.") from failure

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
            except ForbiddenError:
                left = list(batch)  # Ceph 16 holds a policy about keys against the bucket; one by one it asks about the keys
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

    def errors(self, what: str) -> Translate:
        """Turn botocore's errors about `what` into ours."""
        return Translate(self.url, self.endpoint, what)

    def _put(self, key: str, body: bytes, **condition: Any) -> None:
        with self.errors(key):
            self.client.put_object(
                Bucket=self.bucket,
                Key=self.prefix + key,
                Body=body,
                # SeaweedFS takes a body that contradicts its signature, and Ceph one that contradicts its `ChecksumSHA256`;
                # each refuses one that contradicts this.
                ContentMD5=base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
                Metadata={_SHA256: hashlib.sha256(body).hexdigest()},
                **condition,
            )

    def _held(self, key: str, failure: RoundtripError) -> bytes | None:
        """What a key holds after a write of it failed."""
        try:
            return self.get(key)
        except NotFoundError:
            return None
        except RoundtripError as error:
            raise UnreachableError(
                f"{failure} It is not known whether {self.uri(key)} was written, for it can't be read either: {error}"
            ) from failure

    def _read(self, key: str, **arguments: Any) -> tuple[bytes, str | None]:
        """Bytes, and the SHA-256 that stands beside them; botocore tries requests again, but no bodies that break off."""
        from botocore.exceptions import BotoCoreError  # 0.2 s

        left = _READINGS
        with self.errors(key):
            while True:
                left -= 1
                answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **arguments)
                try:
                    return answer["Body"].read(), answer["Metadata"].get(_SHA256)
                except BotoCoreError:
                    if not left:
                        raise

    def _pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> Iterator[Any]:
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        if delimiter:
            arguments["Delimiter"] = delimiter
        if limit is not None:
            arguments["MaxKeys"] = min(limit, 1000)
        with self.errors(prefix or "/"):
            for page in self.client.get_paginator("list_objects_v2").paginate(**arguments):
                names = [*page.get("Contents", []), *page.get("CommonPrefixes", [])]
                if not all(str(n.get("Key") or n.get("Prefix")).startswith(self.prefix + prefix) for n in names):
                    raise UnreachableError(f"The store {self.url} was asked for {prefix!r} and listed other keys.")
                yield page


def open_store(config: StoreConfig | None = None, access: Access | None = None) -> Store:
    """The configured store, or the embedded one, started if need be; it was asked something and answered.

    Args:
        config: Which store, and how objects are written there; by default the environment's.
        access: Credentials of another source than the AWS SDK's own chain (a Prefect block).

    Raises:
        InputError: The store's URL is malformed, or the AWS configuration can't be used.
        UnreachableError: It does not answer, within about five seconds; or the embedded server did not start.
        DeniedError: It refuses the credentials, or is no S3 server.
        NotFoundError: There is no such bucket.
    """
    config = (config or StoreConfig()).completed()
    location = config.location()
    if location is None:
        own = embedded.running().access
        client = make_client(own.for_client(), config)
        return Store(client, own.bucket, "", own.endpoint)
    bucket, prefix = location
    prefix = f"{prefix}/" if prefix else ""
    access = access or default_access()
    with Translate(f"s3://{bucket}/{prefix}".rstrip("/"), access.endpoint, "/"):
        client = make_client(access, config)
    first_contact(access, config, bucket, prefix)
    return Store(client, bucket, prefix, client.meta.endpoint_url)
