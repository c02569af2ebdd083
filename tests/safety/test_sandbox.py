"""What a model that gets past inspection can still do, once the process that loads it is confined.

Each action is tried without the sandbox too: what is not possible anyway, the sandbox can't forbid.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tasks.definitions import Definition
from tasks.definitions.build import MLP, SUBCLASSED
from tasks.errors import InputError, RoundtripError
from tasks.safety import landlock, seccomp
from tasks.safety.sandbox import MEMORY_VARIABLE, OFF_VARIABLE, SECONDS_VARIABLE, Limits, offered
from tasks.storage import Manifest
from tasks.verification import Loader, Measurement, judge
from tests import bundles, samples
from tests.safety.test_saved_models import Writes

# Many processes, each with a load of its own.
pytestmark = pytest.mark.e2e

DATA = samples.classes()
EVERYTHING = ["memory", "time", "files", "network", "processes"]
GIB = 2**30


def measured(folder: Path, manifest: Manifest, definition: Definition | None = None) -> Measurement:
    """By a process of its own, and with no inspection before it."""
    with Loader() as loader:
        return loader.measure(folder, manifest, definition or manifest.definition)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("weights")
    trained, definition = samples.trained("dense", DATA)
    return folder, bundles.written(trained, definition, DATA, "weights-h5", folder)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that anybody on this machine may talk to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def acting(weights: tuple[Path, Manifest], action: str, target: Any = None) -> Measurement:
    """Return a model whose builder, the user's own, does something else first."""
    folder, manifest = weights
    changes = {"reference": "tests.safety.actions:build", "arguments": {"action": action, "target": target}}
    return measured(folder, manifest, manifest.definition.model_copy(update=changes))


def refused(weights: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, action: str, target: Any = None) -> None:
    """The action is refused, and would not be without the sandbox."""
    with pytest.raises(InputError, match=r"Permission denied|Operation not permitted"):
        acting(weights, action, target)
    monkeypatch.setenv(OFF_VARIABLE, "off")
    assert acting(weights, action, target).loads


# What is left to an honest model


def test_this_kernel_offers_all_of_it() -> None:
    """Where it does not, the tests below say nothing of the sandbox."""
    assert landlock.abi() >= landlock.TCP_SINCE
    assert seccomp.available()
    assert offered().startswith("limits on memory and time, Landlock ")


def test_an_honest_model_comes_back_and_tells_what_it_was_held_to(weights: tuple[Path, Manifest]) -> None:
    found = measured(*weights)
    assert (found.loads, found.weights, found.outputs_identical, found.resumed) == (True, [], True, [])
    assert judge(weights[1], found).confined == EVERYTHING


def test_each_measurement_has_a_process_of_its_own(weights: tuple[Path, Manifest], tmp_path: Path) -> None:
    trained, definition = samples.trained(SUBCLASSED, DATA)
    other = bundles.written(trained, definition, DATA, "saved-model", tmp_path)
    with Loader() as loader:
        first = loader.measure(*weights, weights[1].definition)
        second = loader.measure(tmp_path, other, definition)
    assert (first.loads, second.loads) == (True, True)
    assert first.environment.pid != second.environment.pid


@pytest.mark.parametrize("action", ["scratch", "thread"])
def test_a_definition_may_use_its_scratch_folder_and_threads(weights: tuple[Path, Manifest], action: str) -> None:
    assert acting(weights, action).loads


def test_a_definition_in_a_file_may_import_and_read_what_lies_beside_it(
    weights: tuple[Path, Manifest], tmp_path: Path
) -> None:
    (tmp_path / "sizes.txt").write_text("8")
    (tmp_path / "mine.py").write_text(
        "import pathlib\nfrom tests.user_models import dense\n"
        "def net(): return dense(int(pathlib.Path(__file__).with_name('sizes.txt').read_text()))\n"
    )
    definition = weights[1].definition.model_copy(update={"reference": f"{tmp_path / 'mine.py'}:net", "arguments": {}})
    assert measured(*weights, definition).weights == []


# Files


@pytest.mark.parametrize("action", ["write", "program", "replace"])
def test_nothing_is_written_outside(
    weights: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    with pytest.raises(InputError, match=r"Permission denied|Operation not permitted"):
        acting(weights, action, str(tmp_path / "evil"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(OFF_VARIABLE, "off")
    acting(weights, action, str(tmp_path / "evil"))
    assert (tmp_path / "evil").exists()


@pytest.mark.parametrize("action", ["chmod", "overwrite", "remove"])
def test_what_is_there_stays_as_it_is(
    weights: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    (tmp_path / "precious").write_text("data")
    refused(weights, monkeypatch, action, str(tmp_path / "precious"))


def test_the_bundle_itself_is_not_written_to(weights: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    refused(weights, monkeypatch, "write", str(weights[0] / "evil"))
    (weights[0] / "evil").unlink()


@pytest.mark.parametrize("secret", ["file", "/proc/self/environ", "/etc/shadow", "/root"])
def test_files_of_others_are_not_read(weights: tuple[Path, Manifest], tmp_path: Path, secret: str) -> None:
    if secret == "file":
        secret = str(tmp_path / "credentials")
        Path(secret).write_text("secret")
    with pytest.raises(InputError, match=r"PermissionError.*Permission denied.*runs in a sandbox"):
        acting(weights, "list" if Path(secret).is_dir() else "read", secret)


def test_a_saved_model_that_writes_a_file_while_it_loads_does_not_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, evil = tmp_path / "bundle", tmp_path / "evil"
    trained, definition = samples.trained(SUBCLASSED, DATA)
    manifest = bundles.written(trained, definition, DATA, "saved-model", bundle)
    module = tf.Module()
    module.resource = Writes(str(evil))
    serve = tf.function(lambda x: {"output": x}, input_signature=[tf.TensorSpec((None, 8), tf.float32, name="x")])
    tf.saved_model.save(module, str(bundle / "model"), signatures={"serving_default": serve.get_concrete_function()})
    evil.unlink(missing_ok=True)

    found = measured(bundle, manifest)

    assert found.loads is False
    assert found.error is not None
    assert "PermissionDeniedError" in found.error
    assert not evil.exists()
    monkeypatch.setenv(OFF_VARIABLE, "off")
    with contextlib.suppress(RoundtripError):  # it is no model of ours; what counts is what it did
        measured(bundle, manifest)
    assert evil.read_text() == "it ran"


# Network, processes, secrets


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_no_socket_is_opened(
    weights: tuple[Path, Manifest], listener: socket.socket, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    refused(weights, monkeypatch, kind, list(listener.getsockname()))


def test_no_local_socket_either(weights: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "agent.sock"))
        server.listen()
        refused(weights, monkeypatch, "unix", str(tmp_path / "agent.sock"))


@pytest.mark.parametrize(("action", "answer"), [("unlimit", "not allowed to raise"), ("namespace", "not permitted")])
def test_nothing_that_was_given_up_is_taken_back(weights: tuple[Path, Manifest], action: str, answer: str) -> None:
    with pytest.raises(InputError, match=answer):
        acting(weights, action)


@pytest.mark.parametrize(("action", "target"), [("shared memory", None), ("attach", 1), ("priority", None)])
def test_what_processes_share_is_out_of_reach(weights: tuple[Path, Manifest], action: str, target: int | None) -> None:
    with pytest.raises(InputError, match="not permitted"):
        acting(weights, action, target)


@pytest.mark.parametrize("action", ["kill", "trace"])
def test_other_processes_are_out_of_reach(weights: tuple[Path, Manifest], action: str) -> None:
    with pytest.raises(InputError, match="Operation not permitted"):
        acting(weights, action, os.getpid())


_QUEUE = """
import ctypes, os, platform, sys
from tasks.safety import seccomp
assert seccomp.restrict()
numbers = {"x86_64": (129, 297), "aarch64": (138, 240)}[platform.machine()]
libc, parent, information = ctypes.CDLL(None, use_errno=True), os.getppid(), (ctypes.c_int * 32)(0, 0, -1)
print([libc.syscall(numbers[0], parent, 0, information), libc.syscall(numbers[1], parent, parent, 0, information)])
"""


def test_the_filter_alone_keeps_queued_signals_from_others_too() -> None:
    """Landlock has held signals back since Linux 6.12 only."""
    done = subprocess.run([sys.executable, "-c", _QUEUE], capture_output=True, text=True, check=True)
    assert done.stdout == "[-1, -1]\n"


def test_no_process_is_forked(weights: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    refused(weights, monkeypatch, "fork")


def test_the_nursery_forks_nothing_for_it(weights: tuple[Path, Manifest]) -> None:
    with pytest.raises(InputError, match=r"raised OSError: .*Bad file descriptor"):
        acting(weights, "nursery")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("PREFECT_API_AUTH_STRING", "hunter2"),
        ("ROUNDTRIP_SIGNING_KEY", "hunter2"),
        ("MY_TOKEN", "hunter2"),
        ("DATABASE_URL", "postgresql://me:hunter2@localhost/db"),
    ],
)
def test_secrets_of_the_environment_are_not_there(
    weights: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, name: str, secret: str
) -> None:
    monkeypatch.setenv(name, secret)
    monkeypatch.setenv("MY_SETTING", "kept")
    with pytest.raises(InputError, match="<None>"):
        acting(weights, "environment", name)
    with pytest.raises(InputError, match="<kept>"):
        acting(weights, "environment", "MY_SETTING")


# Bombs, hangs, crashes: each is a verdict


def test_a_definition_of_billions_of_weights_does_not_load(tmp_path: Path) -> None:
    trained, definition = samples.trained(MLP, DATA)
    manifest = bundles.written(trained, definition, DATA, "weights-h5", tmp_path)
    bomb = definition.model_copy(update={"arguments": definition.arguments | {"hidden": 2**28}})

    found = measured(tmp_path, manifest, bomb)

    assert found.loads is False
    assert found.error is not None
    assert "ResourceExhaustedError" in found.error
    assert judge(manifest, found).passed is False


def test_memory_is_limited(weights: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, str(GIB))
    assert acting(weights, "allocate", GIB // 2).loads
    bomb = acting(weights, "allocate", 2 * GIB)
    assert bomb.loads is False
    assert "MemoryError" in str(bomb.error)


def test_a_load_that_never_ends_is_ended(weights: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "20")
    found = acting(weights, "never end")
    verdict = judge(weights[1], found)
    assert (verdict.passed, verdict.loads) == (False, False)
    assert verdict.reasons[0] in {
        "it does not load: It was still loading after 20 s and was ended.",
        "it does not load: The process was killed by SIGKILL (SIGKILL from outside mostly means that memory ran out).",
    }


def test_an_answer_without_end_is_not_read(weights: tuple[Path, Manifest]) -> None:
    found = acting(weights, "flood")
    assert (found.loads, found.error) == (False, "The process answered with more than a record can be, and was ended.")


@pytest.mark.parametrize("answer", ["no JSON\n", '{"event": {"loads": "perhaps"}}\n{"done": true}\n'])
def test_an_answer_that_is_no_measurement_is_a_model_that_does_not_load(weights: tuple[Path, Manifest], answer: str) -> None:
    found = acting(weights, "answer", answer)
    assert found.loads is False
    assert str(found.error).startswith("The process answered with no")


def test_a_file_that_is_too_large_is_not_written(weights: tuple[Path, Manifest]) -> None:
    size = Limits.of(weights[1].bytes).file + 1
    with pytest.raises(InputError, match="File too large"):
        acting(weights, "large file", size)


def test_a_crash_in_native_code_is_a_model_that_does_not_load(weights: tuple[Path, Manifest]) -> None:
    found = acting(weights, "crash")
    assert found.loads is False
    assert str(found.error).startswith("The process was killed by SIGSEGV")


def test_limits_grow_with_the_bundle_and_never_past_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large, huge = Limits.of(1000), Limits.of(GIB // 4), Limits.of(10**15)
    assert small.memory < large.memory < huge.memory < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert small.seconds < large.seconds
    monkeypatch.setenv(SECONDS_VARIABLE, "a lot")
    with pytest.raises(InputError, match="ROUNDTRIP_LOAD_SECONDS='a lot' is no number"):
        Limits.of(0)
