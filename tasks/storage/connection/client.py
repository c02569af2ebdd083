"""The boto3 client, made in one place: how patient it is, how it addresses, and what goes with every object it writes.

The options of `StoreConfig` (encryption, storage class, tags, requester pays) are added to the requests themselves, below
whoever makes them: no writer in this room can forget them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.errors import DeniedError, InputError, UnreachableError
from tasks.settings import StoreConfig
from tasks.storage.connection import retries
from tasks.storage.connection.failures import CHECK_ADDRESS, DENIED, Translate

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client

THREADS = 8
_ATTEMPTS = 6
_CONNECTIONS = 40  # kept open at most: the guarantees' 20 racing writers, and the checks beside them
_WRITES = ("PutObject", "CreateMultipartUpload")
_SERVER_ERROR, _PASSING = 500, {429, 502, 503, 504}  # the second: what a gateway says for a server that is busy or coming up
# Of the first contact alone: a wrong address is said within five seconds, while a long transfer is patient.
_FIRST_CONNECT, _FIRST_ANSWER, _AT_ONCE = 3, 4.5, 1.0


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """Credentials that are not the AWS SDK's own. Has no repr: its session may hold a secret.

    Attributes:
        session: Where credentials and region come from.
        client: Arguments for the client: `endpoint_url`, `verify`, `config`.
    """

    session: boto3.session.Session
    client: Mapping[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> str | None:
        """The server's address, where it is not AWS itself or in the AWS SDK's variables."""
        return self.client.get("endpoint_url")


def default_access() -> Access:
    """The AWS SDK's own chain: environment, profiles, roles.

    Raises:
        InputError: The profile does not exist, or its file is malformed.
    """
    import boto3  # 0.3 s
    from botocore.exceptions import BotoCoreError

    try:
        return Access(boto3.session.Session())
    except BotoCoreError as error:
        raise InputError(f"The AWS configuration can't be used: {error}") from error


def make_client(access: Access, options: StoreConfig) -> S3Client:
    """A client for real work: it tries six times, with pauses.

    Raises:
        InputError: The endpoint is no URL, there is no region, or a setting of the AWS SDK can't be used.
    """
    # `standard` waits with jitter between attempts.
    mode = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
    client = _client(access, options, retries=mode, connect_timeout=5, read_timeout=120)
    retries.try_again(client, _ATTEMPTS)
    return client


def first_contact(access: Access, options: StoreConfig, bucket: str, prefix: str) -> None:
    """Find out within about five seconds whether an S3 server that knows us answers; one list request.

    Raises:
        UnreachableError: Nobody answers, or somebody who is no S3 server.
        DeniedError: The credentials are not good. That they may not list is no reason: they may read or write.
        NotFoundError: There is no such bucket.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client(
        access, options, retries={"total_max_attempts": 1}, connect_timeout=_FIRST_CONNECT, read_timeout=_FIRST_ANSWER
    )
    at = client.meta.endpoint_url

    def ask() -> Mapping[str, Any]:
        return client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)

    with Translate(f"s3://{bucket}/{prefix}".rstrip("/"), at, "/"):
        started = time.monotonic()
        try:
            answer = ask()
        except BotoCoreError:
            if time.monotonic() - started > _AT_ONCE:
                raise
            time.sleep(0.2)  # a connection that was reset, or a server that is just coming up
            answer = ask()
        except ClientError as error:
            code, status = str(error.response["Error"].get("Code")), error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code == str(status) and status not in _PASSING:
                # botocore takes the status for the code where there is no XML; and calls other XML than S3's a 500.
                refused = UnreachableError if status >= _SERVER_ERROR else DeniedError
                raise refused(f"{at} is not an S3 server: it answers {code} without S3's XML. {CHECK_ADDRESS}") from error
            if status in _PASSING or status >= _SERVER_ERROR or code in DENIED:
                return  # it is there; what it may do for us, and when, each request will tell
            raise
    if not {"Name", "KeyCount", "IsTruncated"} & answer.keys():
        raise DeniedError(f"{at} is not an S3 server: it answers a list request with something else. {CHECK_ADDRESS}")


def _client(access: Access, options: StoreConfig, **patience: Any) -> S3Client:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, CredentialRetrievalError, SSOError, TokenRetrievalError

    given = dict(access.client)
    theirs: Config | None = given.pop("config", None)
    config = Config(
        signature_version="s3v4",
        # The defaults add trailing CRC checksums that Ceph refuses over TLS; we send SHA-256 ourselves.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        max_pool_connections=_CONNECTIONS,
    )
    config = (config.merge(theirs) if theirs else config).merge(Config(**patience))
    try:
        client: S3Client = access.session.client("s3", **given, config=config)
        if not _is_amazon(client.meta.endpoint_url) and not getattr(config, "s3", None):
            # Other servers rarely have a name for each bucket. Where the address comes from (a variable, a profile, a
            # block), only the client knows; a second one costs 5 ms.
            config = config.merge(Config(s3={"addressing_style": "path"}))
            client = access.session.client("s3", **given, config=config)
    except (CredentialRetrievalError, SSOError, TokenRetrievalError):
        raise  # not the configuration: whoever hands them out refused
    except (BotoCoreError, ValueError) as error:
        raise InputError(f"The AWS configuration can't be used: {error}") from error
    _add_options(client, options)
    return client


def _add_options(client: S3Client, options: StoreConfig) -> None:
    wanted = {
        "ServerSideEncryption": options.encryption,
        "SSEKMSKeyId": options.kms_key,
        "StorageClass": options.storage_class,
        "Tagging": options.tags,
    }
    written = {name: value for name, value in wanted.items() if value}
    if written:
        for operation in _WRITES:
            client.meta.events.register(f"before-parameter-build.s3.{operation}", _adds(written))
    if options.requester_pays:
        client.meta.events.register("before-parameter-build.s3", _adds({"RequestPayer": "requester"}))


def _adds(more: Mapping[str, str]) -> Callable[..., None]:
    """A handler that adds parameters to each request that has them."""

    def add(params: dict[str, Any], model: Any, **_: Any) -> None:
        members = model.input_shape.members if model.input_shape else {}
        params.update({name: value for name, value in more.items() if name in members and name not in params})

    return add


def _is_amazon(endpoint: str) -> bool:
    return (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
