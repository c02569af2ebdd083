"""The servers that Roundtrip is held against, each started once for the session, with a bucket `models` in it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tasks.settings import StoreConfig
from tasks.shared_server import free_ports
from tasks.storage import Access, Store, embedded, open_store
from tasks.storage.connection.client import make_client
from tests.e2e.conftest import prefect_server, warm  # noqa: F401  # the same server for whole commands here
from tests.servers.ceph import Ceph, missing
from tests.servers.policies import PREFIX, ROLES, bucket_policy
from tests.servers.processes import Processes, until

_KEY, _SECRET = "roundtrip-tests", "secret-of-the-tests"


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 server that is up, and its owner's credentials."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str = "models"

    def access(self, access_key: str | None = None, secret_key: str | None = None) -> Access:
        """The owner's access, or somebody else's."""
        session = boto3.session.Session(
            access_key or self.access_key, secret_key or self.secret_key, region_name="us-east-1"
        )
        return Access(session, {"endpoint_url": self.endpoint})

    def store(self, **options: str) -> Store:
        """A new place in it, opened as a user does."""
        config = StoreConfig.model_validate({"url": f"s3://{self.bucket}/{uuid.uuid4().hex}"} | options)
        return open_store(config, self.access())

    def environment(self, prefix: str = "") -> dict[str, str]:
        """What a user sets to have this store."""
        return {
            "ROUNDTRIP_STORE": f"s3://{self.bucket}/{prefix}".rstrip("/"),
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def seaweedfs(s3: embedded.EmbeddedStore) -> Server:
    return Server("seaweedfs", s3.access.endpoint, s3.access.access_key, s3.access.secret_key, s3.access.bucket)


@pytest.fixture(scope="session")
def ceph_cluster() -> Iterator[tuple[Ceph, Server]]:
    lacking = missing()
    if lacking:
        reason = f"no {', '.join(lacking)}: run `bash .ci/install`"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    # A short path: Ceph's sockets are named by it.
    with Processes() as processes, tempfile.TemporaryDirectory(prefix="ceph-") as folder:
        cluster = Ceph(Path(folder), processes, free_ports(3))
        cluster.user("owner", _KEY, _SECRET)
        server = Server("ceph", cluster.endpoint, _KEY, _SECRET)
        _make_bucket(server)
        yield cluster, server


@pytest.fixture(scope="session")
def ceph(ceph_cluster: tuple[Ceph, Server]) -> Server:
    return ceph_cluster[1]


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    with _beside(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p") as server:
        yield Server("moto", server, _KEY, _SECRET)


@pytest.fixture(scope="session")
def rclone() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(sys.executable).parent / "rclone")
        with _beside(program, "serve", "s3", folder, f"--auth-key={_KEY},{_SECRET}", "--addr") as endpoint:
            yield Server("rclone", endpoint, _KEY, _SECRET)


@pytest.fixture(params=["seaweedfs", "ceph", "moto"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the servers on which Roundtrip works."""
    found: Server = request.getfixturevalue(request.param)
    return found


@contextmanager
def _beside(*command: str) -> Iterator[str]:
    """A server of one process, whose last argument is its port, or its address for rclone."""
    (port,) = free_ports(1)
    last = f"127.0.0.1:{port}" if command[-1] == "--addr" else str(port)
    with Processes() as processes, tempfile.TemporaryDirectory() as folder:
        processes.start([*command, last], {**os.environ}, Path(folder) / "log")
        _make_bucket(Server("", f"http://127.0.0.1:{port}", _KEY, _SECRET))
        yield f"http://127.0.0.1:{port}"


def _make_bucket(server: Server) -> None:
    client = make_client(server.access(), StoreConfig())

    def made() -> bool:
        try:
            client.create_bucket(Bucket=server.bucket)
        except ClientError as error:
            return error.response["Error"]["Code"] in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
        except BotoCoreError:
            return False
        return True

    until(made, f"a bucket at {server.endpoint}")


@pytest.fixture(scope="session")
def ceph_with_roles(ceph_cluster: tuple[Ceph, Server]) -> Server:
    cluster, owner = ceph_cluster
    server = replace(owner, bucket="shared")
    _make_bucket(server)
    for role in ROLES:
        cluster.user(role, role, f"{role}-secret")
    _give(server, "arn:aws:iam:::user/")
    return server


@pytest.fixture(scope="session")
def seaweedfs_with_roles() -> Iterator[Server]:
    """The embedded server's own recipe, with users beside its one."""
    with Processes() as processes, tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        recipe = embedded.recipe(folder)
        config = json.loads((folder / "s3.json").read_text())
        config["identities"] += [
            {"name": role, "credentials": [{"accessKey": role, "secretKey": f"{role}-secret"}], "actions": []}
            for role in ROLES
        ]
        (folder / "s3.json").write_text(json.dumps(config))
        processes.start(recipe["command"], {**os.environ, **recipe["env"]}, folder / "log")
        state = recipe["state"]
        server = Server("seaweedfs", state["endpoint"], state["access_key"], state["secret_key"], "shared")
        _make_bucket(server)
        _give(server, "arn:aws:iam::000000000000:user/")
        yield server


@pytest.fixture(params=["ceph_with_roles", "seaweedfs_with_roles"])
def enforcing(request: pytest.FixtureRequest) -> Server:
    """Servers that enforce policies, each with a user for every role; a role's access key is its name."""
    found: Server = request.getfixturevalue(request.param)
    return found


def _give(server: Server, users: str) -> None:
    """Give each role its policy; the server may take a moment to heed it."""
    client = make_client(server.access(), StoreConfig())
    client.put_bucket_policy(Bucket=server.bucket, Policy=bucket_policy(server.bucket, users))
    reader = make_client(server.access("reader", "reader-secret"), StoreConfig())

    def heeded() -> bool:
        try:
            reader.list_objects_v2(Bucket=server.bucket, Prefix=f"{PREFIX}/")
        except ClientError:
            return False
        return True

    until(heeded, f"{server.name} heeds its policies")
