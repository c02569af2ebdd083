"""A publisher, a reader and a returner, three credentials and whole commands, on Ceph: nobody has more than he needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.settings import StoreConfig
from tasks.storage import Store, open_store
from tests.e2e.commands import Home, Result
from tests.servers.conftest import Server
from tests.servers.policies import PREFIX

pytestmark = [pytest.mark.servers, pytest.mark.e2e]

_MODEL = "roles"


def test_three_roles_bring_a_model_from_training_to_latest(
    ceph_with_roles: Server, warm: dict[str, str], home: Path, tmp_path: Path
) -> None:
    homes = {role: _home(tmp_path, role, ceph_with_roles, warm) for role in ("publisher", "reader", "returner")}

    # A publisher trains and publishes; its own proof can't be written down, and says so.
    published = homes["publisher"].run("run", "full-h5", "--epochs", "1", "--name", _MODEL, "--json")
    (run,) = published.document["runs"]
    version = f"{_MODEL}@{run['version']}"
    assert (published.code, run["verdict"]["passed"], run["latest"]) == (0, True, False)
    assert "denies PutObject" in run["unwritten"]

    # A reader proves it, gets the files, and leaves no trace.
    read = homes["reader"].run("return", version, "--to", str(tmp_path / "files"), "--json")
    assert (read.code, read.document["verdict"]["passed"], read.document["latest"]) == (0, True, False)
    assert (tmp_path / "files" / "model").is_dir()
    assert read.document["unwritten"].startswith(
        "The verdict is not in the store and `latest` did not move: The store s3://"
    )
    told = homes["reader"].run("return", version)
    assert told.code == 0
    assert "The verdict is not in the store and `latest` did not move" in told.out
    assert "publisher" not in told.out

    # A returner moves `latest`, and then a reader finds it by that name.
    returned = homes["returner"].run("return", version, "--json")
    assert (returned.code, returned.document["latest"], returned.document["unwritten"]) == (0, True, None)
    found = homes["reader"].run("show", f"{_MODEL}@latest", "--json")
    assert (found.document["version"], len(found.document["verdicts"])) == (run["version"], 1)

    store = open_store(
        StoreConfig(url=f"s3://{ceph_with_roles.bucket}/{PREFIX}"), ceph_with_roles.access("reader", "reader-secret")
    )
    # `home` holds Prefect's database, with every parameter, log and artifact.
    folders = [home, *(user.folder for user in homes.values())]
    _no_secret_anywhere(list(homes), [published, read, told, returned, found], folders, store)


def _home(folder: Path, role: str, server: Server, prefect: dict[str, str]) -> Home:
    keys = {"AWS_ACCESS_KEY_ID": role, "AWS_SECRET_ACCESS_KEY": f"{role}-secret"}
    (folder / role).mkdir()
    return Home(folder / role, server.environment(PREFIX) | keys | prefect)


def _no_secret_anywhere(roles: list[str], results: list[Result], folders: list[Path], store: Store) -> None:
    """Neither in what was printed, nor in what was left on the disk, nor in what was stored."""
    secrets = [f"{role}-secret".encode() for role in roles]
    printed = "".join(result.out + result.err for result in results).encode()
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    objects = [store.get(key) for key in store.keys(f"{_MODEL}/")]
    assert files and objects
    places = [printed, *(path.read_bytes() for path in files), *objects]
    assert not [secret for secret in secrets for place in places if secret in place]
