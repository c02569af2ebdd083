"""Prefect's `AwsCredentials` and `S3Bucket` blocks open the store, on a real Prefect server and a real S3 server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from tasks.storage.embedded import EmbeddedStore
from tests.e2e.commands import Home

pytestmark = pytest.mark.e2e

# Two processes, as in production: one that saves the blocks, and one that is given a name alone.
_SAVE = """
import sys
from prefect_aws import AwsClientParameters, AwsCredentials, MinIOCredentials, S3Bucket
endpoint, key, secret, bucket, folder = sys.argv[1:]
parameters = AwsClientParameters(endpoint_url=endpoint)
own = AwsCredentials(
    aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1", aws_client_parameters=parameters
)
own.save("tests", overwrite=True)
minio = MinIOCredentials(
    minio_root_user=key, minio_root_password=secret, region_name="us-east-1", aws_client_parameters=parameters
)
S3Bucket(bucket_name=bucket, bucket_folder=folder, credentials=own).save("tests", overwrite=True)
S3Bucket(bucket_name=bucket, bucket_folder=folder + "/", credentials=minio).save("tests-minio", overwrite=True)
"""
_OPEN = """
import sys
from tasks.settings import StoreConfig
from tasks.steps import check_store
from tasks.steps.stores import opened
config = StoreConfig.model_validate_json(sys.argv[1])
check_store.fn(config, "weights-h5", rehearsal=False)
store = opened(config)
store.put_if_absent("hello", b"world")
print(store.get("hello").decode(), store.url, config.model_dump_json(exclude_none=True))
"""


@pytest.fixture(scope="module")
def user(
    s3: EmbeddedStore, prefect_server: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Home, str]]:
    """A user whose Prefect server has the blocks; and the store that they open."""
    home = Home(tmp_path_factory.mktemp("block"), prefect_server)
    access, folder = s3.access, uuid.uuid4().hex
    saved = home.python("-c", _SAVE, access.endpoint, access.access_key, access.secret_key, access.bucket, folder)
    out, err = saved.communicate(timeout=240)
    assert saved.returncode == 0, out + err
    yield home, f"s3://{access.bucket}/{folder}"


@pytest.mark.parametrize(
    "block", [{"aws_credentials": "tests"}, {"s3_bucket": "tests"}, {"s3_bucket": "tests-minio"}], ids=str
)
def test_a_store_is_opened_by_the_name_of_a_block(user: tuple[Home, str], s3: EmbeddedStore, block: dict[str, str]) -> None:
    home, url = user
    url = f"{url}/aws" if "aws_credentials" in block else url
    config = block | ({"url": url} if "aws_credentials" in block else {})

    opened = home.python("-c", _OPEN, json.dumps(config), cwd=home.folder)
    out, err = opened.communicate(timeout=240)

    assert opened.returncode == 0, err
    said, where, shown = out.split(" ", 2)
    assert (said, where, json.loads(shown)) == ("world", url, config)
    assert s3.access.secret_key not in out + err


def test_a_store_that_is_named_twice_is_refused(user: tuple[Home, str]) -> None:
    home, url = user

    opened = home.python("-c", _OPEN, json.dumps({"s3_bucket": "tests", "url": url}))
    _, err = opened.communicate(timeout=240)

    assert opened.returncode != 0
    assert "The store is named twice: by the S3Bucket block 'tests' and beside it." in err
