"""A Prefect `AwsCredentials` block opens the store, on a real Prefect server and a real S3 server."""

from __future__ import annotations

import json
import uuid

import pytest

from tasks.storage.embedded import EmbeddedStore
from tests.e2e.commands import Home

pytestmark = pytest.mark.e2e

# Two processes, as in production: one that saves the block, and one that is given its name alone.
_SAVE = """
import sys
from prefect_aws import AwsClientParameters, AwsCredentials
endpoint, key, secret = sys.argv[1:]
parameters = AwsClientParameters(endpoint_url=endpoint)
AwsCredentials(
    aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1", aws_client_parameters=parameters
).save("tests")
"""
_OPEN = """
import sys
from tasks.settings import StoreConfig
from tasks.steps import _open, check_store
config = StoreConfig(url=sys.argv[1], aws_credentials="tests")
check_store.fn(config)
store = _open(config)
store.put_if_absent("hello", b"world")
print(store.get("hello").decode(), config.model_dump_json())
"""


def test_a_store_is_opened_with_the_credentials_of_a_block(
    s3: EmbeddedStore, prefect_server: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    user = Home(tmp_path_factory.mktemp("block"), prefect_server)
    access = s3.access
    url = f"s3://{access.bucket}/{uuid.uuid4().hex}"

    saved = user.python("-c", _SAVE, access.endpoint, access.access_key, access.secret_key)
    assert saved.wait(120) == 0, saved.communicate()[1]
    opened = user.python("-c", _OPEN, url)
    out, err = opened.communicate(timeout=120)

    assert opened.returncode == 0, err
    said, config = out.split(" ", 1)
    assert said == "world"
    assert json.loads(config) == {"url": url, "aws_credentials": "tests"}
    assert access.secret_key not in out + err
