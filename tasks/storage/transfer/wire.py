"""Whole objects and ranges of them, moved by obstore: Rust, outside Python's global lock, 0.3 ms of CPU a request.

boto3 takes 1.6 ms for the same (README.md has the table), so 2,000 small files would wait for Python. It stays the one place
that is configured: endpoint, region, credentials, trust and the options of every object are read off the boto3 client here,
and what goes wrong becomes botocore's error, which `Store.errors` knows how to tell. What needs boto3's own verbs (put if
absent, lists, uploads in parts) is no part of this.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from tasks.errors import InputError
from tasks.storage.connection import retries
from tasks.storage.store import Store

if TYPE_CHECKING:
    from obstore import Bytes
    from obstore.store import ClientConfig, S3Store

T = TypeVar("T")

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,64})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")

_making = threading.Lock()  # else each lane makes one for itself, for the first file that it moves


def put(store: Store, key: str, body: bytes) -> None:
    """Write an object in one request.

    Guarantee: the SHA-256 of the body goes with it, as the payload's signature and as S3's checksum, so that every server
    that knows one of them (S3, MinIO and SeaweedFS the checksum, Ceph the signature) refuses bytes that were damaged.

    Raises:
        UnreachableError: The store failed, after retries.
    """
    import obstore

    line = _line(store)
    options: dict[str, Any] = {"use_multipart": False, "attributes": line.attributes, "tags": line.tags or None}
    _asked(store, "PutObject", key, lambda: obstore.put(line.store, store.prefix + key, body, **options))


def get(store: Store, key: str, start: int, length: int) -> Bytes:
    """So many bytes of an object from `start`; fewer where it ends before.

    Raises:
        NotFoundError: There is no such key, or nothing of it at `start`.
        UnreachableError: The store failed, after retries.
    """
    import obstore

    line = _line(store)
    return _asked(
        store, "GetObject", key, lambda: obstore.get_range(line.store, store.prefix + key, start=start, length=length)
    )


class _Line:
    """An obstore store, and what goes with every object that it writes."""

    def __init__(self, store: S3Store, attributes: dict[str, str], tags: dict[str, str]) -> None:
        self.store, self.attributes, self.tags = store, attributes, tags


def _line(store: Store) -> _Line:
    """One for each store, with connections of its own."""
    with _making:
        return _line_once(store)


@lru_cache(maxsize=16)
def _line_once(store: Store) -> _Line:
    from obstore.store import S3Store  # 16 MB

    client: Any = store.client
    endpoint = client.meta.endpoint_url
    options = _options(store)
    config: dict[str, Any] = {
        # Both names: obstore reads the AWS SDK's variables too, and what the boto3 client has must win.
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "region": _region(store),
        "virtual_hosted_style_request": False,
        "checksum_algorithm": "SHA256",
        "unsigned_payload": False,
    }
    if "ServerSideEncryption" in options:
        config["server_side_encryption"] = options.pop("ServerSideEncryption")
    if "SSEKMSKeyId" in options:
        config["sse_kms_key_id"] = options.pop("SSEKMSKeyId")
    if "RequestPayer" in options:
        config["request_payer"] = bool(options.pop("RequestPayer"))
    attributes = {"Storage-Class": options.pop("StorageClass")} if "StorageClass" in options else {}
    tags = dict(parse_qsl(options.pop("Tagging", ""), keep_blank_values=True))
    if options:
        raise InputError(f"Files can't be written to {store.url} with {', '.join(options)}.")
    credentials = client._get_credentials()
    if credentials is None:
        config["skip_signature"] = True
    made = S3Store(
        store.bucket,
        config=config,  # type: ignore[arg-type]
        client_options=_client_options(client),
        retry_config={
            "max_retries": client.meta.config.retries["total_max_attempts"] - 1,
            "retry_timeout": timedelta(minutes=10),
        },
        credential_provider=None if credentials is None else lambda: _frozen(credentials),
    )
    return _Line(made, attributes, tags)


def _options(store: Store) -> dict[str, Any]:
    """What the boto3 client adds to every object that it writes; its own handlers are asked, so no option is forgotten."""
    client = store.client
    params: dict[str, Any] = {"Bucket": store.bucket, "Key": "key"}
    model = client.meta.service_model.operation_model("PutObject")
    client.meta.events.emit("before-parameter-build.s3.PutObject", params=params, model=model, context={})
    return {name: value for name, value in params.items() if name not in {"Bucket", "Key"}}


def _client_options(client: Any) -> ClientConfig:
    options: dict[str, Any] = {
        "allow_http": urlsplit(client.meta.endpoint_url).scheme == "http",
        "connect_timeout": timedelta(seconds=client.meta.config.connect_timeout),
        "read_timeout": timedelta(seconds=client.meta.config.read_timeout),
        "timeout": timedelta(minutes=10),  # for a whole request: 8 MiB at 14 kB/s
    }
    if not options["allow_http"]:
        from botocore.httpsession import get_cert_path

        trusted = client._endpoint.http_session._verify  # AWS_CA_BUNDLE, `ca_bundle` of the profile, a block's `verify`
        if trusted is False:
            options["allow_invalid_certificates"] = True
        else:
            options["root_certificate"] = Path(str(get_cert_path(trusted))).read_bytes()
    return options  # type: ignore[return-value]


def _region(store: Store) -> str:
    """Of the bucket: boto3 follows a redirect to it, obstore does not. Asked of AWS alone, once."""
    from botocore.exceptions import ClientError

    client = store.client
    if ".amazonaws.com" not in client.meta.endpoint_url:
        return client.meta.region_name or "us-east-1"
    try:
        answer: Any = client.head_bucket(Bucket=store.bucket)
    except ClientError as error:  # a 403 names the region too
        answer = error.response
    found = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "")
    return found if _REGION.fullmatch(found) else client.meta.region_name


def _frozen(credentials: Any) -> Any:
    """What botocore has now, refreshed where it is about to expire; obstore asks again after five minutes at most."""
    from datetime import UTC, datetime

    now = credentials.get_frozen_credentials()
    return {
        "access_key_id": now.access_key,
        "secret_access_key": now.secret_key,
        "token": now.token,
        "expires_at": datetime.now(UTC) + timedelta(minutes=5),
    }


def _asked(store: Store, operation: str, key: str, ask: Callable[[], T]) -> T:
    """Try again where obstore's own attempts do not, as boto3 does; turn its errors, which are text, into botocore's."""
    from botocore.exceptions import ClientError
    from obstore.exceptions import BaseError

    with store.errors(key):
        for attempt in count(1):
            try:
                return ask()
            except (BaseError, FileNotFoundError, ValueError) as error:
                failure = _as_botocore(str(error), operation, store.endpoint)
                if attempt >= retries.DAMAGED_ATTEMPTS:
                    raise failure from error
                if not isinstance(failure, ClientError):
                    if "timed out" not in str(failure):  # obstore tries reads again then, and no writes
                        raise failure from error
                elif failure.response["ResponseMetadata"]["HTTPStatusCode"] in retries.STATUSES:
                    time.sleep(retries.with_jitter(attempt))
                elif failure.response["Error"]["Code"] not in retries.DAMAGED:
                    raise failure from error
    raise AssertionError


def _as_botocore(text: str, operation: str, endpoint: str | None) -> Exception:
    from botocore.exceptions import ClientError, HTTPClientError

    status, code, message = _STATUS.search(text), _CODE.search(text), _MESSAGE.search(text)
    if status is None and code is None:
        reason = text.partition("\n")[0].rpartition(" - ")[2][:300]
        return HTTPClientError(error=Exception(reason or f"no answer from {endpoint}"))
    said = code[1] if code else status[1] if status else ""
    error: Any = {"Code": said, "Message": message[1] if message else f"HTTP {said}"}
    about: Any = {"HTTPStatusCode": int(status[1]) if status else 0, "HTTPHeaders": {}}
    return ClientError({"Error": error, "ResponseMetadata": about}, operation)
