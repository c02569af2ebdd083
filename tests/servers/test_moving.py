"""`deployments/maintenance.md`: a store is copied by any S3 tool, in three passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.storage import Store, advance_latest, fetch, move_alias, read_manifest, resolve
from tasks.storage.catalog import list_models
from tasks.verification.verdict import record
from tests.faults.world import verdict_of
from tests.servers.conftest import Server
from tests.storage.samples import published

pytestmark = pytest.mark.servers
_GUIDE = Path(__file__).parents[2] / "deployments" / "maintenance.md"


def _lines() -> list[str]:
    """The guide's own: the time, and three passes."""
    (block,) = re.findall(r"^```sh\n(export BEFORE=.*?)```", _GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return block.splitlines()  # type: ignore[no-any-return]  # findall's strings


class _Copy:
    """A copy that goes on line by line, in one shell's environment."""

    def __init__(self, server: Server, source: Store, target: Store) -> None:
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": server.endpoint,
            "ACCESS_KEY_ID": server.access_key,
            "SECRET_ACCESS_KEY": server.secret_key,
            "REGION": "us-east-1",
        }
        self._environment = {f"RCLONE_CONFIG_REMOTE_{name}": value for name, value in remote.items()}
        self._environment |= {"RCLONE_CONFIG": "", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._places = [f"remote:{store.bucket}/{store.prefix}" for store in (source, target)]
        self._lines = _lines()

    def go_on(self, lines: int) -> None:
        """Do so many more of the guide's lines."""
        for line in self._lines[:lines]:
            command = line.replace("SOURCE", self._places[0]).replace("DESTINATION", self._places[1])
            script = f"set -e; {command}; echo ${{BEFORE}}"
            done = subprocess.run(
                ["bash", "-c", script], env=os.environ | self._environment, check=True, timeout=120,
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            self._environment["BEFORE"] = done.stdout.split()[-1]
        self._lines = self._lines[lines:]


@pytest.fixture
def stores(seaweedfs: Server, tmp_path: Path) -> tuple[Store, Store]:
    """One with two versions, to the first of which an alias points, and to the second `latest`; and an empty one."""
    source = seaweedfs.store()
    for number in range(2):
        manifest = published(source, tmp_path / str(number), {"model/weights.bin": os.urandom(3000), "probe.npz": b"p"})
        verdict = verdict_of(manifest)
        record(source, verdict)
        advance_latest(source, manifest.model, manifest.version, verdict.id)
        if number == 0:
            move_alias(source, manifest.model, "production", manifest.version, verdict.id, "the first")
    time.sleep(3.1)  # the guide goes back two seconds, for its clock and the server's have whole ones
    return source, replace(source, prefix=f"{uuid.uuid4().hex}/")


def test_a_copy_holds_all_that_the_store_held(stores: tuple[Store, Store], seaweedfs: Server, tmp_path: Path) -> None:
    source, target = stores
    _Copy(seaweedfs, source, target).go_on(4)
    assert sorted(target.keys("")) == sorted(source.keys(""))
    for alias in ("latest", "production"):
        found = resolve(target, f"digits@{alias}")
        assert found == resolve(source, f"digits@{alias}")
        manifest = read_manifest(target, *found)
        fetch(target, manifest, tmp_path / alias)
        key = target.prefix + f"digits/versions/{manifest.version}/manifest.json"
        assert "sha256" in target.client.head_object(Bucket=target.bucket, Key=key)["Metadata"]


@pytest.mark.parametrize("after", [1, 2])
def test_a_copy_that_was_interrupted_and_whose_source_is_in_use_shows_nothing_that_is_not_whole(
    stores: tuple[Store, Store], seaweedfs: Server, tmp_path: Path, after: int
) -> None:
    source, target = stores
    copy = _Copy(seaweedfs, source, target)
    copy.go_on(2)
    published(source, tmp_path / "meanwhile")
    copy.go_on(after - 1)
    assert [summary.versions for summary in list_models(target)] == ([2] if after == 2 else [])
    visible = [key for key in target.keys("") if key.endswith("/manifest.json")]
    assert bool(visible) == (after == 2)
    assert not [key for key in target.keys("") if "/aliases/" in key]
    for key in visible:
        fetch(target, read_manifest(target, "digits", key.split("/")[2]), tmp_path / key.split("/")[2])
