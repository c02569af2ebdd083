"""Nothing secret leaves its place in a whole job, and the servers at a desk talk to their owner alone."""

from __future__ import annotations

import http.client
import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config

from tests.e2e.commands import Home, Result, end_of
from tests.safety.test_signing import write_pair

pytestmark = pytest.mark.e2e

# Holds the servers of a desk, as any program of this user's does, and tells how to reach them.
_HOLD = """
import json, os, sys
from flows.server import PrefectServer
from tasks.storage import embedded
server, store = PrefectServer(), embedded.start()
store.wait_until_up(); server.wait_until_up()
names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
print(json.dumps({name: os.environ[name] for name in names}), flush=True)
sys.stdin.read()
"""
_BLOCKS = """
import sys
from prefect.blocks.system import Secret
from prefect_aws import AwsClientParameters, AwsCredentials
endpoint, key, secret, pem = sys.argv[1:]
Secret(value=open(pem).read()).save("signing")
AwsCredentials(
    aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1",
    aws_client_parameters=AwsClientParameters(endpoint_url=endpoint),
).save("store")
"""
_FLOWS = """
from flows.return_model import return_model
from flows.weights_h5 import weights_h5
from tasks.data import DataConfig
from tasks.settings import StoreConfig
from tasks.training import TrainingConfig
store = StoreConfig(url="s3://models/by-block", aws_credentials="store")
ref = weights_h5(data=DataConfig(rows=400), training=TrainingConfig(epochs=1), name="by-block", store=store)
returned = return_model(str(ref), store=store)
print(returned.verdict.model_dump_json())
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """A user's servers, what reaches them, and what nobody else may see."""

    home: Home
    prefect: dict[str, str]
    store: dict[str, Any]
    secrets: dict[str, str]

    def signed(self) -> dict[str, str]:
        keys = self.home.folder / "keys"
        return {"ROUNDTRIP_SIGNING_KEY": "secret:signing", "ROUNDTRIP_VERIFY_KEY": str(keys / "key.pub")}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = Home(tmp_path_factory.mktemp("home"), {})
    (home.folder / "keys").mkdir()
    write_pair(home.folder / "keys", "key")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        env=home.environment(), cwd=home.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        prefect = json.loads(holder.stdout.readline())
        store = json.loads((home.folder / "data" / "roundtrip" / "store" / "server.json").read_text())["state"]
        pem = (home.folder / "keys" / "key.pem").read_text().splitlines()
        secrets = {
            "store": store["secret_key"],
            "prefect": prefect["PREFECT_API_AUTH_STRING"].partition(":")[2],
            "signing": pem[1],
        }
        assert all(len(secret) > 20 for secret in secrets.values())
        yield Desk(home, prefect, store, secrets)
    finally:
        holder.stdin.close()
        holder.wait(60)


@pytest.fixture(scope="module")
def said(desk: Desk) -> list[Result]:
    """What a whole job said, at the desk and by blocks, with all that `--debug` adds."""
    access = desk.store["endpoint"], desk.store["access_key"], desk.store["secret_key"]
    pem = str(desk.home.folder / "keys" / "key.pem")
    saved = end_of(desk.home.python("-c", _BLOCKS, *access, pem, **desk.prefect))
    assert saved.code == 0, saved.err
    ran = desk.home.run("run", "weights-h5", "--epochs", "1", "--json", "--debug", **desk.signed())
    back = desk.home.run("return", "weights-h5", "--json", "--debug", **desk.signed())
    blocks = end_of(desk.home.python("-c", _FLOWS, PREFECT_LOGGING_LEVEL="DEBUG", **desk.prefect, **desk.signed()))
    wrong = desk.home.run("return", "weights-h5", "--debug", ROUNDTRIP_VERIFY_KEY="secret:missing")
    return [saved, ran, back, blocks, wrong]


def test_the_job_was_signed_and_proved(said: list[Result]) -> None:
    _, ran, back, blocks, wrong = said
    verdicts = [ran.document["runs"][0]["verdict"], back.document["verdict"], json.loads(blocks.out.splitlines()[-1])]
    assert [(v["passed"], v["signature"]) for v in verdicts] == [(True, "valid")] * 3
    assert all(v["confined"] == ["memory", "time", "files", "network", "processes"] for v in verdicts)
    assert wrong.code == 2
    assert "no Prefect Secret block 'missing'" in wrong.err


def test_nothing_secret_was_said(desk: Desk, said: list[Result]) -> None:
    for name, secret in desk.secrets.items():
        assert not [r for r in said if secret in r.out + r.err], name


def test_nothing_secret_is_in_the_store(desk: Desk, said: list[Result]) -> None:
    client = boto3.client(
        "s3", endpoint_url=desk.store["endpoint"], aws_access_key_id=desk.store["access_key"],
        aws_secret_access_key=desk.store["secret_key"], region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    keys = [o["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket="models") for o in page["Contents"]]
    contents = {key: client.get_object(Bucket="models", Key=key)["Body"].read() for key in keys}
    assert any(key.endswith("model.sig") for key in contents)
    for name, secret in desk.secrets.items():
        assert not [key for key, content in contents.items() if secret.encode() in content], name


def test_files_that_hold_a_secret_are_the_servers_own_and_for_nobody_elses_eyes(desk: Desk, said: list[Result]) -> None:
    """Prefect's database and logs, the store's data, the cache, the home: all of it."""
    holding: dict[str, int] = {}
    files = [p for p in desk.home.folder.rglob("*") if stat.S_ISREG(p.lstat().st_mode)]
    assert any(p.name == "prefect.db" for p in files)
    for path in files:
        content = path.read_bytes()
        if path.parent.name != "keys" and any(secret.encode() in content for secret in desk.secrets.values()):
            holding[path.relative_to(desk.home.folder).as_posix()] = stat.S_IMODE(path.stat().st_mode)
    servers = "data/roundtrip"
    expected = ("prefect/server.json", "store/server.json", "store/s3.json")
    assert holding == {f"{servers}/{name}": 0o600 for name in expected}


def test_the_command_lines_of_all_processes_hold_no_secret(desk: Desk) -> None:
    """Any user of the machine can read them."""
    lines = [" ".join(process.cmdline()) for process in desk.home.processes()]
    assert any("weed" in line for line in lines)
    for name, secret in desk.secrets.items():
        assert not [line for line in lines if secret in line], name


def _listening(home: Home) -> set[tuple[str, int]]:
    found = set()
    for process in home.processes():
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN or not connection.raddr:
                found.add((connection.laddr.ip, connection.laddr.port))
    return found


def test_every_socket_is_on_loopback(desk: Desk) -> None:
    listening = _listening(desk.home)
    assert len(listening) >= 2
    assert {ip for ip, _ in listening} == {"127.0.0.1"}


def test_nobody_is_let_in_without_credentials(desk: Desk, said: list[Result]) -> None:
    """Whatever speaks HTTP says no: the store's port, its filer's and volumes' with the same data behind, and Prefect's.

    But for the page on which SeaweedFS' master shows its version and the volumes' sizes.
    """
    answers: dict[tuple[int, str], int] = {}
    paths = [
        "/dir/assign",
        "/dir/status",
        "/vol/grow?count=1",
        "/col/delete?collection=models",
        "/",
        "/models/?list-type=2",
        "/buckets/models/?limit=5",
        "/models/.roundtrip/sentinel",
        "/api/flows/count",
    ]
    refusing: set[int] = set()
    for _, port in _listening(desk.home):
        for path in paths:
            data = b"{}" if path.startswith("/api") else None
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data)
            request.add_header("Content-Type", "application/json")
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    if b"<title>SeaweedFS" not in answer.read(200):
                        answers[port, path] = answer.status
            except urllib.error.HTTPError as error:
                answers[port, path] = error.code
                refusing.add(port)
            except (OSError, ValueError, http.client.HTTPException):
                continue  # no HTTP
    assert {place: code for place, code in answers.items() if code < 400} == {}
    assert len(refusing) >= 2
