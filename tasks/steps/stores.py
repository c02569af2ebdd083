"""The store of a run, and the secrets that Prefect keeps for it."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from tasks import storage
from tasks.errors import DeniedError, InputError, RoundtripError, UnreachableError
from tasks.settings import StoreConfig

_opening = threading.Lock()  # who needs it waits for whoever opens it early, and opens no second one


def is_bad_luck(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Retry what a second attempt can mend."""
    del task, run
    error = _error_of(state)
    return isinstance(error, UnreachableError) and not isinstance(error, DeniedError)


def is_no_mistake(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Retry whatever failed, but for wrong input: of services that are not ours, whose errors we don't know."""
    del task, run
    return not isinstance(_error_of(state), InputError)


def _error_of(state: State[Any]) -> Any:
    return getattr(state.data, "exception", state.data)


def opened(config: StoreConfig) -> storage.Store:
    """The configured store, opened once a process: a boto3 client costs 0.2 s."""
    with _opening:
        return _open_once(config.completed())


def open_early() -> None:
    """Open the environment's store ahead of the first task that needs it; who can't will fail there, with the reason."""
    with suppress(RoundtripError):
        opened(StoreConfig())


@cache
def _open_once(config: StoreConfig) -> storage.Store:
    if not (config.aws_credentials or config.s3_bucket):
        return storage.open_store(config)
    from prefect_aws import AwsCredentials, S3Bucket  # 2 s, and only where a block is named

    if not config.s3_bucket:
        return storage.open_store(config, _access_of(AwsCredentials.load(config.aws_credentials)))
    if config.url or config.aws_credentials:
        raise InputError(
            f"The store is named twice: by the S3Bucket block {config.s3_bucket!r} and beside it. Name it once."
        )
    bucket: Any = S3Bucket.load(config.s3_bucket)
    url = f"s3://{bucket.bucket_name}/{bucket.bucket_folder.strip('/')}"
    return storage.open_store(config.model_copy(update={"url": url, "s3_bucket": None}), _access_of(bucket.credentials))


def _access_of(block: Any) -> storage.Access:
    """What an AwsCredentials or a MinIOCredentials block gives; it takes on the role that the block names."""
    return storage.Access(block.get_boto3_session(), block.aws_client_parameters.get_params_override())


def secret(name: str) -> str:
    """The text of a Prefect Secret block."""
    from prefect.blocks.system import Secret

    try:
        block: Any = Secret.load(name)
    except ValueError as error:
        raise InputError(f"There is no Prefect Secret block {name!r}.") from error
    return str(block.get())
