"""Files that do harm when they are opened, built here: the advisories on Keras and TensorFlow, and what no advisory covers.

`SAMPLES` names each, with the kind of finding that inspection must have on it. None needs the network or the host's files
to be built, and none does harm but to whoever loads it.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import stat
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """A hostile file: what it is called, what must be found in it, and how it is built in a folder."""

    name: str
    kind: str
    build: Callable[[Path], Path]


SAMPLES: dict[str, Sample] = {}


def sample(name: str, kind: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def register(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
        SAMPLES[name] = Sample(name, kind, build)
        return build

    return register


class Evil:
    """Runs a command when it is unpickled; the command says only that it ran."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("echo this pickle ran",)


# Building blocks


def keras(name: str, config: Any, module: str | None = "keras.layers", **more: Any) -> dict[str, Any]:
    """One object of a configuration."""
    return {"module": module, "class_name": name, "config": config, "registered_name": None, **more}


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    first = keras("InputLayer", {"batch_shape": [None, 8], "dtype": "float32", "name": "x"})
    return keras("Sequential", {"name": "model", "layers": [first, *layers]}, "keras")


def dense(units: int = 4, **more: Any) -> dict[str, Any]:
    return keras("Dense", {"name": f"dense_{units}", "units": units, "activation": "linear", **more})


@functools.cache
def weights() -> bytes:
    """A small `.weights.h5`, as Keras lays it out."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.zeros((8, 4), np.float32))
        file.create_dataset("layers/dense/vars/1", data=np.zeros(4, np.float32))
    return stream.getvalue()


def archive(path: Path, config: Any, more: dict[str, bytes] | None = None, packed: bool = False) -> Path:
    """A `.keras` file."""
    members = {"metadata.json": b'{"keras_version": "3.15.1"}', "config.json": json.dumps(config).encode()}
    members |= {"model.weights.h5": weights()} | (more or {})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def h5(path: Path, config: Any) -> Path:
    """A whole model in HDF5."""
    path.write_bytes(weights())
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = config if isinstance(config, bytes) else json.dumps(config).encode()
    return path


def lambda_layer() -> dict[str, Any]:
    code = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
    return keras("Lambda", {"name": "lambda", "function": code})


# Keras configurations


@sample("CVE-2024-3660 Lambda in .keras", "code")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(dense(), lambda_layer()))


@sample("CVE-2025-9905 Lambda in .h5", "code")
def _(folder: Path) -> Path:
    return h5(folder / "model.h5", sequential(dense(), lambda_layer()))


@sample("CVE-2025-1550 a function of any module", "foreign function")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(dense(activation=function("os", "system"))))


@sample("CVE-2025-1550 a class of any module", "foreign class")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(keras("Popen", {"args": "id"}, "subprocess")))


@sample("CVE-2025-8747 get_file as a gadget", "code")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(dense(activation=function("keras.utils", "get_file"))))


@sample("CVE-2025-9906 safe mode switched off from the configuration", "foreign function")
def _(folder: Path) -> Path:
    off = function("keras.config", "enable_unsafe_deserialization")
    return archive(folder / "model.keras", sequential(dense(activation=off), lambda_layer()))


@sample("CVE-2025-12058 a vocabulary that is a file of the host", "host path")
def _(folder: Path) -> Path:
    lookup = keras("StringLookup", {"name": "lookup", "vocabulary": "/etc/passwd"})
    return archive(folder / "model.keras", sequential(lookup))


@sample("CVE-2025-12060 and 12638 a tar that leaves its folder, among the assets", "unreadable")
def _(folder: Path) -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../evil"), io.BytesIO())
    return archive(folder / "model.keras", sequential(dense()), {"assets/data.tar": stream.getvalue()})


@sample("CVE-2026-1462 TFSMLayer", "code")
def _(folder: Path) -> Path:
    layer = keras("TFSMLayer", {"name": "x", "filepath": "//host/share/model"})
    return archive(folder / "model.keras", sequential(layer))


@sample("CVE-2026-12481 Lambda.from_config", "code")
def _(folder: Path) -> Path:
    gadget = keras(
        "Lambda",
        {"name": "x", "function": "gadget", "function_type": "function", "module": "os"},
        "keras.src.layers.core.lambda_layer",
    )
    return archive(folder / "model.keras", sequential(keras("TimeDistributed", {"layer": gadget})))


@sample("keras#23654 a Lambda that is the constructor of TFSMLayer", "code")
def _(folder: Path) -> Path:
    layer = keras("Lambda", {"name": "x", "function": function("keras.layers", "TFSMLayer"), "arguments": {"filepath": "x"}})
    return archive(folder / "model.keras", sequential(layer))


@sample("TFOpLambda calls any function of TensorFlow", "code")
def _(folder: Path) -> Path:
    return h5(folder / "model.h5", sequential(keras("TFOpLambda", {"name": "x", "function": "io.write_file"}, None)))


@sample("code deep in a wrapper's configuration", "code")
def _(folder: Path) -> Path:
    inner: Any = lambda_layer()
    for i in range(30):
        inner = keras("TimeDistributed", {"name": f"t{i}", "layer": inner})
    return archive(folder / "model.keras", sequential(inner))


@sample("a module that only begins like Keras'", "foreign class")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(keras("Dense", {"units": 4}, "keras_evil.layers")))


@sample("a class of Keras that is no part of a model", "foreign class")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(keras("BackupAndRestore", {"backup_dir": "/tmp"}, "keras.callbacks")))


@sample("a name that is no text", "malformed")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(keras(["Lambda"], {})))  # type: ignore[arg-type]


# Bombs


@sample("Dense(units=2**28) in a file of 15 kB", "bomb")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(dense(2**28)))


@sample("two layers of 30,000 units, a matrix of 900 million", "bomb")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(dense(30_000), keras("Dropout", {"rate": 0.5}), dense(30_001)))


@sample("a shape to build for, out of proportion", "bomb")
def _(folder: Path) -> Path:
    layer = dense(64) | {"build_config": {"input_shape": [None, 2**26]}}
    return archive(folder / "model.keras", sequential(layer))


@sample("a config.json of blanks", "malformed")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(archive(folder / "model.keras", sequential(dense())), "r") as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(folder / "model.keras", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in members.items():
            file.writestr(name, content + b" " * 20 * 2**20 if name == "config.json" else content)
    return folder / "model.keras"


@sample("eight members that unpack to a thousandfold", "bomb")
def _(folder: Path) -> Path:
    blank = bytes(12 * 2**20)
    more = {f"assets/{i}": blank for i in range(8)}
    return archive(folder / "model.keras", sequential(dense()), more, packed=True)


@sample("nesting without end", "malformed")
def _(folder: Path) -> Path:
    return h5(folder / "model.h5", b"[" * 100_000)


@sample("CVE-2026-0897 HDF5 shapes of terabytes", "bomb")
def _(folder: Path) -> Path:
    return _shapes(folder, (2**40,), 1)


@sample("HDF5 shapes just under 4 GiB in 14 kB", "bomb")
def _(folder: Path) -> Path:
    return _shapes(folder, (2**30 - 1,), 4)


@sample("HDF5 shapes that are packed a thousandfold", "bomb")
def _(folder: Path) -> Path:
    path = folder / "model.weights.h5"
    path.write_bytes(weights())
    with h5py.File(path, "a") as file:
        file.create_dataset("layers/d/vars/0", (2**28,), "f4", chunks=(2**20,), compression="gzip")
    return path


def _shapes(folder: Path, shape: tuple[int, ...], count: int) -> Path:
    path = folder / "model.weights.h5"
    path.write_bytes(weights())
    with h5py.File(path, "a") as file:
        for i in range(count):
            file.create_dataset(f"layers/big{i}/vars/0", shape, "f4")
    return path


# HDF5


@sample("CVE-2026-1669 HDF5 external storage", "link")
def _(folder: Path) -> Path:
    return _linked(folder, lambda file: file.create_dataset("x", (4,), "u1", external=[("/etc/hostname", 0, 4)]))


@sample("CVE-2026-1669 HDF5 external link", "link")
def _(folder: Path) -> Path:
    return _linked(folder, lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")))


@sample("CVE-2026-1669 HDF5 soft link", "link")
def _(folder: Path) -> Path:
    return _linked(folder, lambda file: file.__setitem__("x", h5py.SoftLink("/layers")))


@sample("CVE-2026-1669 HDF5 virtual dataset", "link")
def _(folder: Path) -> Path:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    return _linked(folder, lambda file: file.create_virtual_dataset("x", layout))


@sample("HDF5 external link inside a .keras", "link")
def _(folder: Path) -> Path:
    inner = _linked(folder, lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")))
    content = inner.read_bytes()
    inner.unlink()
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(sequential(dense())))
        file.writestr("model.weights.h5", content)
    return path


def _linked(folder: Path, add: Callable[[h5py.File], object]) -> Path:
    path = folder / "model.weights.h5"
    path.write_bytes(weights())
    with h5py.File(path, "a") as file:
        add(file)
    return path


@sample("HDF5 that was cut off", "malformed")
def _(folder: Path) -> Path:
    (folder / "model.weights.h5").write_bytes(weights()[:-100])
    return folder / "model.weights.h5"


# Archives


@sample("two members config.json, the last one hostile", "duplicate")
def _(folder: Path) -> Path:
    path = archive(folder / "model.keras", sequential(dense()))
    with zipfile.ZipFile(path, "a") as file:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.writestr("config.json", json.dumps(sequential(lambda_layer())))
    return path


@sample("a member that leaves its folder", "path")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(dense()), {"assets/../../../evil": b"x"})


@sample("a member that is a link", "link")
def _(folder: Path) -> Path:
    path = archive(folder / "model.keras", sequential(dense()))
    link = zipfile.ZipInfo("assets/vocabulary.txt")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    return path


@sample("an archive behind another file", "malformed")
def _(folder: Path) -> Path:
    path = archive(folder / "model.keras", sequential(dense()))
    path.write_bytes(b"GIF89a" + path.read_bytes())
    return path


@sample("a .h5 that is a zip", "mislabelled")
def _(folder: Path) -> Path:
    return archive(folder / "model.h5", sequential(dense()))


# Pickles and programs


@sample("a pickle in .npz", "pickle")
def _(folder: Path) -> Path:
    np.savez(folder / "state.npz", x=np.array([Evil()], dtype=object))
    return folder / "state.npz"


@sample("a pickle in model.weights.npz of a .keras", "pickle")
def _(folder: Path) -> Path:
    stream = io.BytesIO()
    np.savez(stream, x=np.array([Evil()], dtype=object))
    return archive(folder / "model.keras", sequential(dense()), {"model.weights.npz": stream.getvalue()})


@sample("a pickle", "pickle")
def _(folder: Path) -> Path:
    (folder / "model.pkl").write_bytes(pickle.dumps(Evil()))
    return folder / "model.pkl"


@sample("a pickle of protocol 0 under another name", "pickle")
def _(folder: Path) -> Path:
    (folder / "notes.txt").write_bytes(pickle.dumps(Evil(), protocol=0))
    return folder / "notes.txt"


@sample("a program among the assets of a .keras", "program")
def _(folder: Path) -> Path:
    return archive(folder / "model.keras", sequential(dense()), {"assets/helper": b"\x7fELF" + bytes(60)})


# Checkpoints and indexes


@sample("a checkpoint file that points elsewhere", "path")
def _(folder: Path) -> Path:
    (folder / "checkpoint").write_text('model_checkpoint_path: "/etc/other/ckpt-1"\n')
    return folder


@sample("a checkpoint file that is written as TensorFlow never does", "malformed")
def _(folder: Path) -> Path:
    (folder / "checkpoint").write_text("model_checkpoint_path: '\\057etc/ckpt-1'\n")
    return folder


@sample("shards that lie elsewhere", "path")
def _(folder: Path) -> Path:
    index = {"metadata": {}, "weight_map": {"/layers/dense/vars": ["../../other.weights.h5"]}}
    (folder / "model.weights.json").write_text(json.dumps(index))
    return folder


# Exports to other runtimes


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def proto(number: int, value: bytes | str | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def onnx(path: Path, *graph: bytes) -> Path:
    path.write_bytes(proto(1, 9) + proto(7, b"".join(graph)) + proto(8, proto(2, 18)))
    return path


@sample("ONNX: a tensor in a file of the host", "path")
def _(folder: Path) -> Path:
    entry = proto(1, "location") + proto(2, "../../../etc/passwd")
    tensor = proto(1, 4) + proto(2, 2) + proto(8, "w") + proto(13, entry) + proto(14, 1)
    return onnx(folder / "model.onnx", proto(5, tensor))


@sample("ONNX: an operation that the host must load", "operation")
def _(folder: Path) -> Path:
    return onnx(folder / "model.onnx", proto(1, proto(4, "PyOp") + proto(7, "ai.onnx.contrib")))


@sample("ONNX: an operation in the branch of a condition", "operation")
def _(folder: Path) -> Path:
    branch = proto(1, proto(4, "PyOp") + proto(7, "ai.onnx.contrib"))
    return onnx(folder / "model.onnx", proto(1, proto(4, "If") + proto(5, proto(1, "then_branch") + proto(6, branch))))


@sample("ONNX: a tensor of terabytes", "bomb")
def _(folder: Path) -> Path:
    return onnx(folder / "model.onnx", proto(5, proto(1, 2**40) + proto(2, 1) + proto(8, "w")))


# SavedModels, written field by field: TensorFlow's own are in `test_saved_models.py`


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    body = proto(1, name) + proto(2, op) + b"".join(proto(3, i) for i in inputs)
    return body + b"".join(proto(5, proto(1, key) + proto(2, value)) for key, value in attributes.items())


def saved_model(folder: Path, nodes: list[bytes], functions: list[bytes] = [], rest: bytes = b"") -> Path:  # noqa: B006
    graph = b"".join(proto(1, n) for n in nodes) + proto(2, b"".join(proto(1, f) for f in functions))
    (folder / "saved_model.pb").write_bytes(proto(1, 1) + proto(2, proto(2, graph) + rest))
    return folder


def library_function(name: str, arguments: list[str], nodes: list[bytes]) -> bytes:
    signature = proto(1, name) + b"".join(proto(2, proto(1, a)) for a in arguments)
    return proto(1, signature) + b"".join(proto(3, n) for n in nodes)


def text_constant(name: str, value: str) -> bytes:
    return node(name, "Const", value=proto(8, proto(1, 7) + proto(2, b"") + proto(8, value)))


@sample("SavedModel: a file is read when it is called", "operation")
def _(folder: Path) -> Path:
    inner = library_function("f", ["x"], [text_constant("path", "/etc/passwd"), node("read", "ReadFile", "path:output:0")])
    return saved_model(folder, [], [inner])


@sample("SavedModel: the checkpoint's own operation writes where the graph says", "operation")
def _(folder: Path) -> Path:
    nodes = [text_constant("path", "/tmp/evil"), node("save", "SaveV2", "path:output:0", "names", "slices", "x")]
    return saved_model(folder, nodes)


@sample("SavedModel: a function says where the function that saves writes", "operation")
def _(folder: Path) -> Path:
    saves = library_function("saves", ["path", "x"], [node("save", "SaveV2", "path", "n", "s", "x")])
    call = node("call", "StatefulPartitionedCall", "p:output:0", "x", f=proto(10, proto(1, "saves")))
    caller = library_function("caller", ["x"], [text_constant("p", "/tmp/evil"), call])
    return saved_model(folder, [], [saves, caller])


@sample("SavedModel: a vocabulary that is a file of the host, at load", "operation")
def _(folder: Path) -> Path:
    fills = library_function("fills", ["path", "table"], [node("t", "InitializeTableFromTextFileV2", "table", "path")])
    call = node("call", "StatefulPartitionedCall", "p", "table", f=proto(10, proto(1, "fills")))
    return saved_model(folder, [text_constant("p", "/etc/passwd"), node("table", "HashTableV2"), call], [fills])


@sample("SavedModel: a captured text says which file is read at load", "operation")
def _(folder: Path) -> Path:
    fills = library_function("fills", ["path", "table"], [node("t", "InitializeTableFromTextFileV2", "table", "path")])
    constant, table = proto(1, proto(9, proto(1, "c"))), proto(1, proto(10, b""))
    bound = proto(2, proto(1, "fills") + proto(2, proto(2, b"\x00\x01")))
    return saved_model(folder, [], [fills], proto(7, constant + table + bound))


@sample("SavedModel: an operation of nobody's", "operation")
def _(folder: Path) -> Path:
    return saved_model(folder, [node("x", "EvilCustomOp")])


@sample("SavedModel: an asset outside of its folder", "path")
def _(folder: Path) -> Path:
    asset = proto(6, proto(1, proto(1, "Const:0")) + proto(2, "../../../../etc/passwd"))
    return saved_model(folder, [node("x", "NoOp")], rest=asset)


@sample("SavedModel: a constant of terabytes", "bomb")
def _(folder: Path) -> Path:
    shape = proto(2, proto(2, proto(1, 2**40)))
    return saved_model(folder, [node("x", "Const", value=proto(8, proto(1, 1) + shape + proto(5, b"\0\0\0\0")))])


@sample("SavedModel: as text, which nothing here reads", "unreadable")
def _(folder: Path) -> Path:
    (folder / "saved_model.pbtxt").write_text('meta_graphs { graph_def { node { name: "x" op: "WriteFile" } } }')
    return folder


@sample("SavedModel of Keras 2 with a Lambda in its metadata", "code")
def _(folder: Path) -> Path:
    entry = proto(3, "root.layer-1") + proto(4, "_tf_keras_layer") + proto(5, json.dumps(lambda_layer()))
    (folder / "keras_metadata.pb").write_bytes(proto(1, entry))
    return saved_model(folder, [node("x", "NoOp")])
