"""Bad input of every kind: the right exit code, one clear message, no traceback, and nothing published."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.children import Child
from tasks.errors import InputError
from tasks.shared_server import free_ports
from tasks.storage import Store, alias_history, embedded, fetch, layout, open_store, publish, read_manifest
from tasks.storage.transfer import file_entries
from tasks.verification import read_verdicts
from tests.e2e.commands import ROOT, Home, Result
from tests.own_store import s3_variables
from tests.storage.samples import put

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CODE = f"{Path(__file__).parent / 'user_code.py'}"
SMALL = ("--data", f"{CODE}:data")
LINEAR = ("--model", f"{CODE}:linear")


@pytest.fixture(scope="module")
def user(s3: embedded.EmbeddedStore, warm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A user with a store and a Prefect server that are up."""
    return Home(tmp_path_factory.mktemp("user"), s3_variables(s3.access) | warm)


@pytest.fixture
def opened(user: Home, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The user's store, for looking into it."""
    for name, value in user.variables.items():
        if name.startswith(("AWS_", "ROUNDTRIP_")):
            monkeypatch.setenv(name, value)
    return open_store()


@pytest.fixture(scope="module")
def model(user: Home) -> dict[str, Any]:
    """A version that was published and passed."""
    result = user.run("run", "full-h5", *LINEAR, *SMALL, "--epochs", "1", "--name", "good", "--json")
    assert result.code == 0, result.err
    return result.document["runs"][0]  # type: ignore[no-any-return]


def assert_refused(result: Result, code: int, *words: str) -> None:
    """One error that says these words, with this exit code, and nothing on stdout."""
    assert result.code == code, (result.code, result.out, result.err)
    assert len(result.errors) == 1, result.err
    message = result.err[result.err.index(result.errors[0]) :]
    for word in words:
        assert word in " ".join(message.split()), message
    assert "Traceback" not in result.err
    assert result.out == ""


# Refused before anything is started


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "no-such-scenario"], 2, ["'no-such-scenario'", "saved-model", "weights-h5", "full-h5"]),
        (["run"], 2, ["SCENARIO"]),
        (["no-such-command"], 2, ["no-such-command"]),
        (["run", "saved-model", "--epochs", "0"], 2, ["--epochs"]),
        (["run", "saved-model", "--learning-rate", "-1"], 2, ["--learning-rate"]),
        (["run", "saved-model", "--name", "a/b"], 2, ["'a/b' can't be a model's", "letters, digits"]),
        (["run", "saved-model", "--model-arg", "hidden"], 2, ["--model-arg 'hidden' is not KEY=VALUE"]),
        (["run", "saved-model", "--model", "nofile.py:f"], 2, ["there is no file", "nofile.py"]),
        (["run", "saved-model", "--model", "nocolon"], 2, ["'nocolon' is not a reference", "module:callable"]),
        (["run", "saved-model", "--data", "missing.npz"], 2, ["There is no file", "missing.npz"]),
        (["show", "no-such-model"], 5, ["There is no model 'no-such-model'", "python -m flows list"]),
        (["show", "a/b"], 2, ["'a/b' can't be a model's"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_arguments_are_refused(user: Home, opened: Store, arguments: list[str], code: int, words: list[str]) -> None:
    assert_refused(user.run(*arguments), code, *words)


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"ROUNDTRIP_STORE": "models"}, 2, ["'models' is not a store", "ROUNDTRIP_STORE=s3://bucket"]),
        ({"ROUNDTRIP_STORE": "s3://no-such-bucket/x"}, 5, ["There is no bucket 'no-such-bucket'", "Create it first"]),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, 4, ["refuses the credentials", "Check AWS_PROFILE or the keys"]),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, 4, ["refuses the credentials", "Check AWS_PROFILE or the keys"]),
        ({"AWS_PROFILE": "nobody"}, 2, ["The AWS configuration can't be used", "nobody"]),
    ],
    ids=["malformed", "bucket", "secret", "key", "profile"],
)
@pytest.mark.parametrize("command", [["list"], ["show", "digits"]], ids=" ".join)
def test_a_store_that_can_not_be_used_is_named(
    user: Home, command: list[str], variables: dict[str, str], code: int, words: list[str]
) -> None:
    assert_refused(user.run(*command, **variables), code, *words)


def test_a_malformed_store_stops_a_job_before_it_starts(user: Home) -> None:
    assert_refused(user.run("run", "saved-model", ROUNDTRIP_STORE="models"), 2, "'models' is not a store")


def test_a_store_where_nobody_listens_is_named(user: Home) -> None:
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    assert_refused(user.run("list", AWS_ENDPOINT_URL_S3=endpoint), 4, f"at {endpoint} does not answer")


def test_a_prefect_server_where_nobody_listens_is_named(user: Home) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    words = (f"The Prefect server at {url} does not answer", "PREFECT_API_URL")
    assert_refused(user.run("run", "weights-h5", PREFECT_API_URL=url), 4, *words)


def test_a_prefect_server_that_refuses_the_password_is_named(user: Home) -> None:
    result = user.run("run", "weights-h5", PREFECT_API_AUTH_STRING="some:body")
    assert_refused(result, 4, "Prefect server", user.variables["PREFECT_API_URL"], "PREFECT_API_AUTH_STRING")


# Refused by a job that is running


@pytest.fixture(scope="module")
def trainer(user: Home) -> Iterator[Child]:
    """The process in which every `run` trains, kept for many requests: an import of TensorFlow for each costs minutes."""
    # A nursery of its own: Prefect keeps the settings of the moment of its import, and this process' has no server.
    child = Child("flows.trainer", env=user.environment(), python=Path(sys.executable))
    yield child
    child.end()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.savez(tmp_path / "only_x.npz", x=np.zeros((60, 4)))
    np.savez(tmp_path / "objects.npz", x=np.array([{}] * 60), y=np.zeros(60))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "syntax.py").write_text("def model(:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("builder", "arguments", "source", "words"),
    [
        ("no_such_module:f", {}, "data", ["There is no module 'no_such_module'"]),
        ("no_such_thing", {}, "data", ["has no 'no_such_thing'", "linear"]),
        ("not_callable", {}, "data", ["is int, not a callable"]),
        ("no_model", {}, "data", ["returned dict, not a keras.Model"]),
        ("raising", {}, "data", ["raised RuntimeError: the flux capacitor is empty"]),
        ("{files}/syntax.py:model", {}, "data", ["syntax.py failed: SyntaxError"]),
        ("linear", {"width": 3}, "data", ["can't be called with", "'width'", "(features: 'int' = 4)"]),
        ("linear", {"features": 7}, "data", ["can't be called on the data", "(4,)"]),
        ("linear", {}, "no_such_thing", ["has no 'no_such_thing'"]),
        ("linear", {}, "raising", ["raised RuntimeError: the flux capacitor is empty"]),
        ("linear", {}, "other_rows", ["x has 80 rows and y has 79"]),
        ("linear", {}, "with_nan", ["1 NaN", "(5, 2)"]),
        ("linear", {}, "{files}/no_such.npz", ["There is no file"]),
        ("linear", {}, "{files}/only_x.npz", ["only_x.npz holds ['x']", "x and y are needed"]),
        ("linear", {}, "{files}/objects.npz", ["objects.npz"]),
        ("linear", {}, "{files}/broken.npz", ["broken.npz is not a readable .npz file"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_models_and_data_are_input_errors(
    trainer: Child, opened: Store, files: Path, builder: str, arguments: dict[str, Any], source: str, words: list[str]
) -> None:
    builder, source = (
        place.format(files=files) if "{" in place else place if ":" in place else f"{CODE}:{place}"
        for place in (builder, source)
    )
    name = uuid.uuid4().hex
    parameters = {"model": {"builder": builder, "arguments": arguments}, "data": {"source": source}, "name": name}
    trainer.send({"scenario": "weights-h5", "parameters": parameters})
    with pytest.raises(InputError) as refused:
        list(trainer.events())
    assert (refused.value.kind, refused.value.exit_code) == ("input", 2)
    for word in words:
        assert word in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert opened.keys(f"{name}/") == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["weights-h5", *LINEAR, "--data", f"{CODE}:with_nan"], 2, ["1 NaN", "the first at index (5, 2)"]),
        (["full-h5", "--model", f"{CODE}:subclassed", *SMALL], 2, ["Own can't be stored as full-h5", "Use the scenario"]),
        (["weights-h5", "--epochs", "200000"], 2, ["training.epochs", "less than or equal to 100000"]),
        (["saved-model", "--learning-rate", "1e30"], 1, ["loss became nan", "nothing was published", "--learning-rate"]),
        (["full-h5", "--learning-rate", "1e30"], 1, ["loss became nan", "nothing was published", "--learning-rate"]),
    ],
    ids=["nan-in-the-data", "subclassed-in-full-h5", "too-many-epochs", "nan-loss-in-the-loop", "nan-loss-in-fit"],
)
def test_a_job_that_can_not_succeed_ends_with_one_error(
    user: Home, opened: Store, arguments: list[str], code: int, words: list[str]
) -> None:
    name = uuid.uuid4().hex
    assert_refused(user.run("run", *arguments, "--name", name), code, *words)
    assert opened.keys(f"{name}/") == []


def test_a_scenario_that_fails_stops_no_other_and_fails_before_it_trains(user: Home, opened: Store) -> None:
    name = uuid.uuid4().hex
    own = ("--model", f"{CODE}:subclassed", *SMALL, "--epochs", "1", "--name", name, "--json")

    result = user.run("run", "full-h5", "weights-h5", *own)

    assert result.code == 2, result.err
    assert [(run["scenario"], run["verdict"]["passed"]) for run in result.document["runs"]] == [("weights-h5", True)]
    assert [(f["scenario"], f["error"]["kind"]) for f in result.document["failed"]] == [("full-h5", "input")]
    assert "Own can't be stored as full-h5" in result.document["error"]["message"]
    assert "weights-h5: epoch 1/1" in result.err and "full-h5: epoch" not in result.err
    assert opened.keys(f"{name}-full-h5/") == []


def test_a_job_learns_of_a_missing_bucket_before_it_trains(user: Home) -> None:
    result = user.run("run", "saved-model", ROUNDTRIP_STORE="s3://no-such-bucket/x")
    assert_refused(result, 5, "There is no bucket 'no-such-bucket'")
    assert "epoch" not in result.err


def test_with_json_an_error_is_the_one_document(user: Home) -> None:
    cases = [
        (["run", "no-such-scenario", "--json"], {}, "input", 2),
        (["--json", "no-such-command"], {}, "input", 2),
        (["show", "no-such-model", "--json"], {}, "not-found", 5),
        (["list", "--json"], {"AWS_SECRET_ACCESS_KEY": "wrong"}, "denied", 4),
        (["list", "--json"], {"ROUNDTRIP_STORE": "models"}, "input", 2),
        (["run", "saved-model", "--model", f"{CODE}:no_model", *SMALL, "--json"], {}, "input", 2),
    ]
    for arguments, variables, kind, code in cases:
        result = user.run(*arguments, **variables)
        assert result.code == code, result.err
        assert result.document.keys() == {"error"}
        assert result.document["error"].keys() == {"kind", "message", "exit_code"}
        assert (result.document["error"]["kind"], result.document["error"]["exit_code"]) == (kind, code)
        assert "Traceback" not in result.err
        assert result.errors == []


# Returning


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        ("no-such-model", 5, ["There is no model 'no-such-model'", "python -m flows list"]),
        ("good@no-such-alias", 5, ["good has no alias 'no-such-alias'", "It has: latest"]),
        (f"good@{layout.new_version()}", 5, ["There is no version"]),
        ("good@a/b", 2, ["'a/b' can't be a model's or an alias'"]),
    ],
    ids=["model", "alias", "version", "malformed"],
)
def test_what_is_not_there_can_not_be_returned(
    user: Home, model: dict[str, Any], reference: str, code: int, words: list[str]
) -> None:
    assert_refused(user.run("return", reference), code, *words)


def test_a_place_that_can_not_be_written_is_refused(user: Home, model: dict[str, Any]) -> None:
    assert_refused(user.run("return", "good", "--to", "/proc/roundtrip"), 2, "Can't write to /proc/roundtrip")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for folders, and hardly for a file."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture(scope="module")
def large(user: Home) -> str:
    """The reference of a version of more than a megabyte."""
    result = user.run("run", "weights-h5", "--epochs", "1", "--name", "large", "--json")
    assert result.code == 0, result.err
    return f"large@{result.document['runs'][0]['version']}"


def test_a_full_disk_for_the_bundle_is_named_and_nothing_is_published(user: Home, opened: Store, full_disk: Path) -> None:
    result = user.run("run", "weights-h5", "--epochs", "1", "--name", "never", TMPDIR=str(full_disk))

    assert_refused(result, 2, "Can't write the bundle to", "No space left on device", "Set TMPDIR")
    assert list(opened.keys("never/")) == []


def test_a_full_disk_for_the_files_is_named_and_left_as_it_was(user: Home, large: str, full_disk: Path) -> None:
    result = user.run("return", large, "--to", str(full_disk / "to"))

    assert_refused(result, 2, str(full_disk), "Can't write to", "No space left on device")
    assert list(full_disk.iterdir()) == []


def test_a_full_disk_for_the_cache_is_named(user: Home, large: str, full_disk: Path) -> None:
    result = user.run("return", large, XDG_CACHE_HOME=str(full_disk))

    assert_refused(result, 2, "Can't write to", str(full_disk), "No space left on device")


@pytest.fixture
def damaged(opened: Store, model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The model with one bit of one weight flipped in the store."""
    (key,) = [k for k in opened.keys(layout.bundle("good", model["version"]) + "model/") if k.endswith(".h5")]
    body = opened.get(key)
    put(opened, key, body[:-100] + bytes([body[-100] ^ 1]) + body[-99:])
    yield model
    put(opened, key, body)


def test_a_tampered_version_is_refused_its_verdict_kept_and_latest_left_where_it_was(
    user: Home, opened: Store, damaged: dict[str, Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    history = alias_history(opened, "good", "latest")
    verdicts = read_verdicts(opened, "good", damaged["version"])
    # On a machine that has none of it: what is in the cache is not asked for again.
    cache = tmp_path_factory.mktemp("cache")
    result = user.run("return", "good", "--to", str(tmp_path / "to"), "--json", XDG_CACHE_HOME=str(cache))
    assert result.code == 3, result.err
    assert result.document["error"]["kind"] == "unsafe"
    assert "is not what was published" in result.document["error"]["message"]
    assert result.document["verdict"]["passed"] is result.document["verdict"]["intact"] is False
    assert list(tmp_path.iterdir()) == []
    *before, last = read_verdicts(opened, "good", damaged["version"])
    assert before == verdicts
    assert (last.passed, last.intact) == (False, False)
    assert alias_history(opened, "good", "latest") == history


@pytest.fixture
def dangerous(user: Home, opened: Store, model: dict[str, Any], tmp_path: Path) -> str:
    """The reference of a version with a program beside the model, declared and all."""
    manifest = read_manifest(opened, "good", model["version"])
    folder = fetch(opened, manifest, tmp_path / "bundle")
    (folder / "model" / "start.sh").write_text("#!/bin/sh\necho started\n")
    (folder / layout.MANIFEST).unlink()
    version = layout.new_version()
    forged = manifest.model_copy(update={"version": version, "files": file_entries(folder)})
    return str(publish(opened, folder, forged))


def test_what_is_dangerous_is_refused_and_nothing_of_it_loaded(user: Home, opened: Store, dangerous: str) -> None:
    refused = user.run("return", dangerous, "--json")
    assert (refused.code, refused.document["error"]["kind"]) == (3, "unsafe"), refused.err
    verdict = refused.document["verdict"]
    assert (verdict["safe"], verdict["loads"], verdict["passed"]) == (False, None, False)
    assert [(f["severity"], f["kind"], f["where"]) for f in verdict["findings"]] == [
        ("dangerous", "program", "model/start.sh"),
        ("suspicious", "unknown", "model/start.sh"),
    ]
    assert "--allow 'program'" in refused.document["error"]["message"]
    (kept,) = read_verdicts(opened, "good", dangerous.partition("@")[2])
    assert (kept.passed, kept.safe, kept.allowed) == (False, False, [])


def test_an_exception_that_fits_nothing_is_refused(user: Home, dangerous: str) -> None:
    result = user.run("return", dangerous, "--allow", "code")
    assert_refused(result, 2, "--allow 'code' fits nothing that was found", "program:model/start.sh")


def test_what_is_dangerous_is_let_through_by_name_and_the_verdict_says_so(user: Home, opened: Store, dangerous: str) -> None:
    history = alias_history(opened, "good", "latest")
    allowed = user.run("return", dangerous, "--allow", "program:model/start.sh", "--json")
    assert allowed.code == 0, allowed.err
    assert allowed.document["verdict"]["passed"] is True
    assert allowed.document["latest"] is False
    (kept,) = read_verdicts(opened, "good", dangerous.partition("@")[2])
    assert (kept.passed, kept.safe, kept.allowed) == (True, True, ["program:model/start.sh"])
    assert alias_history(opened, "good", "latest") == history


def test_inspect_tells_and_loads_nothing(user: Home, model: dict[str, Any], dangerous: str, tmp_path: Path) -> None:
    good = user.run("inspect", "good", "--json")
    assert (good.code, good.document["findings"]) == (0, []), good.err
    bad = user.run("inspect", dangerous, "--json")
    assert (bad.code, [f["kind"] for f in bad.document["findings"]]) == (3, ["program", "unknown"]), bad.err
    file = user.run("inspect", str(tmp_path / "bundle" / "model" / "start.sh"))
    assert file.code == 3 and "dangerous" in file.out and "a script" in file.out
    assert_refused(user.run("inspect", "no-such-model"), 5, "There is no model 'no-such-model'")
    assert_refused(user.run("inspect", "no/such/file.keras"), 5, "There is no file or folder")


def test_help_and_a_good_list_are_no_errors(user: Home) -> None:
    for arguments in (["--help"], ["run", "--help"], ["list"]):
        result = user.run(*arguments, cwd=ROOT)
        assert (result.code, result.errors) == (0, [])
