"""One S3 store: a bucket and a prefix, and the few verbs that everything else is made of.

Guarantee that all rests on: `put_if_absent`. Of any number of writers of one key exactly one wins, and each learns whether
it was itself, even where the response was lost on the way and botocore sent the request again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.errors import ConflictError, NotFoundError
from tasks.settings import StoreConfig
from tasks.storage import embedded
from tasks.storage.client import Access, default_access, first_contact, make_client
from tasks.storage.failures import Translate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
        try:
            with self.errors(key):
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except NotFoundError:
            return False
        return True

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

    def delete(self, key: str) -> None:
        """Remove a key; no error where it is gone already."""
        with self.errors(key):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def errors(self, what: str) -> Translate:
        """Turn botocore's errors about `what` into ours."""
        return Translate(self.url, self.endpoint, what)

    def _pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> Iterator[Any]:
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        if delimiter:
            arguments["Delimiter"] = delimiter
        if limit is not None:
            arguments["MaxKeys"] = min(limit, 1000)
        with self.errors(prefix or "/"):
            yield from self.client.get_paginator("list_objects_v2").paginate(**arguments)


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
