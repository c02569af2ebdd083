"""Whatever the bytes are, the answer is a list of findings: no crash, no hang, no gigabytes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.safety import inspect_path
from tasks.safety.files import Budget
from tasks.safety.findings import MalformedError
from tasks.safety.hdf5_file import Hdf5
from tests.safety import hostile
from tests.safety.fuzz import check, mutated
from tests.safety.hostile import dense, proto, sequential

BIG = 5_200_000  # more than the steps that inspection takes


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One valid file of each type."""
    folder = tmp_path_factory.mktemp("valid")
    hostile.archive(folder / "model.keras", sequential(dense()), {"assets/words.txt": b"a\nb\n"})
    hostile.archive(folder / "packed.keras", sequential(dense()), packed=True)
    hostile.h5(folder / "model.h5", sequential(dense()))
    (folder / "model.weights.h5").write_bytes(hostile.weights())
    np.savez(folder / "state.npz", a=np.zeros((3, 4), np.float32), b=np.array(["x", "yy"]))
    np.savez_compressed(folder / "packed.npz", a=np.zeros((300, 4)))
    tensor = proto(1, 4) + proto(2, 1) + proto(8, "w")
    branch = proto(5, proto(1, "then_branch") + proto(6, proto(1, proto(4, "Relu"))))
    hostile.onnx(folder / "model.onnx", proto(1, proto(4, "If") + branch), proto(5, tensor))
    model = tf.keras.Sequential([tf.keras.Input((8,)), tf.keras.layers.Dense(4)])
    tf.saved_model.save(model, str(folder / "saved"))
    tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(folder / "checkpoints"), 1).save()
    identity = tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec((2,), tf.float32))
    (folder / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([identity]).convert())
    return folder


def test_there_is_nothing_to_find_before_anything_was_mutated(valid: Path) -> None:
    assert inspect_path(valid).findings == ()


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 100))
def test_a_mutated_file_is_inspected(valid: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, number: int) -> None:
    files = sorted(p for p in valid.rglob("*") if p.is_file())
    original = files[number % len(files)]
    path = tmp_path_factory.getbasetemp() / original.name
    path.write_bytes(mutated(original.read_bytes(), random.Random(seed)))
    check(path)


@given(content=st.binary(max_size=300), name=st.sampled_from(["m.keras", "m.h5", "m.npz", "m.onnx", "m.tflite", "m.index",
       "saved_model.pb", "keras_metadata.pb", "checkpoint", "x.json", "x.html", "x", "m.npy"]))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_bytes_under_any_name_are_inspected(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    check(path)


@pytest.mark.timeout(300)
def test_mutated_files_are_inspected_within_the_limits_of_memory_and_time(valid: Path) -> None:
    command = [sys.executable, "-m", "tests.safety.fuzz", str(valid), "--rounds", "1500", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["wrong"] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("saved_model.pb", lambda: b"\x12\x00" * BIG),
        ("saved_model.pb", lambda: proto(2, proto(2, b"\x0a\x00" * BIG))),
        ("saved_model.pb", lambda: proto(2, proto(2, proto(1, b"\x1a\x00" * BIG)))),
        ("saved_model.pb", lambda: proto(2, proto(2, proto(1, proto(2, "Evil")) * 300_000))),
        ("config.json", lambda: b"[" + b"[]," * BIG + b"[]]"),
        ("config.json", lambda: b"[" + b'{"class_name":"Lambda"},' * 300_000 + b"1]"),
        ("model.onnx", lambda: proto(7, proto(5, proto(1, b"\x01" * BIG)))),
    ],
)
def test_a_file_of_nothing_but_parts_is_given_up(name: str, content: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content())
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.safety.fuzz import check, limit\n"
        "from tasks.safety import inspect_path\nlimit()\n"
        "check(Path(sys.argv[1]))\nprint(len(inspect_path(Path(sys.argv[1])).refused))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


# Our reader of HDF5 and the library's


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0."), min_size=1, max_size=12)
TYPES = st.sampled_from(["f4", "f8", "i1", "?", "S7", "f2", np.dtype([("a", "i4"), ("b", "f8")])])


@settings(max_examples=60, deadline=None)
@given(
    data=st.dictionaries(NAMES, st.tuples(NAMES, TYPES, st.lists(st.integers(0, 6), max_size=3)), max_size=14),
    latest=st.booleans(),
    chunks=st.booleans(),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)
def test_our_reader_sees_what_the_library_sees(
    tmp_path_factory: pytest.TempPathFactory, data: Any, latest: bool, chunks: bool, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "compared.h5"
    with h5py.File(path, "w", libver="latest" if latest else "earliest") as file:
        file.attrs["text"] = text
        for group, (name, dtype, shape) in data.items():
            options = {"chunks": True, "compression": "gzip"} if chunks and shape and 0 not in shape else {}
            file.create_dataset(f"{group}/{name}", tuple(shape), dtype, **options)
    with h5py.File(path) as file:
        seen: dict[str, int] = {}
        file.visititems(lambda name, x: seen.__setitem__(name, x.nbytes) if isinstance(x, h5py.Dataset) else None)

    try:
        ours, attributes = walk(path)
    except MalformedError as error:
        # The newer layouts that Keras does not write are refused, never misread.
        assert latest and ("dense storage" in str(error) or "kind" in str(error)), error
        return
    assert ours == seen
    assert attributes["text"] in {text.encode(), text.encode() + b"\0"}


def walk(path: Path) -> tuple[dict[str, int], dict[str, bytes | None]]:
    hdf5 = Hdf5(memoryview(path.read_bytes()), Budget())
    found: dict[str, int] = {}
    stack = [("", hdf5.root)]
    while stack:
        place, address = stack.pop()
        node = hdf5.node(address)
        if node.declared is not None:
            found[place] = node.declared
        stack += [(f"{place}/{link.name}".lstrip("/"), link.target) for link in node.links if link.target is not None]
    return found, hdf5.node(hdf5.root).attributes
