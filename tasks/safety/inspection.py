"""Look into a bundle's files before they are loaded.

What is found here so far: undeclared files and links, Python in a Keras configuration, classes outside Keras and the
definition's own module, links out of an HDF5 file, operations of a SavedModel that touch the host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from tasks.errors import UnsafeError
from tasks.storage.layout import MANIFEST
from tasks.storage.manifest import Manifest

# Keras classes and functions that run code, load other files or fetch from the network.
_ACTIVE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "get_file", "load_model"}
# Operations that reach the file system, a socket, Python or another host. Those that every SavedModel needs to read its own
# variables (`RestoreV2`, `SaveV2`, `MergeV2Checkpoints`, `ShardedFilename`) are not among them.
_HOST_OPERATIONS = {
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunc", "PrintV2",
    "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2",
    "TFRecordReaderV2", "TextLineReaderV2", "WholeFileReaderV2", "FixedLengthRecordReaderV2", "IdentityReaderV2",
    "LMDBDataset", "LMDBReader", "SqlDataset", "CSVDataset", "CSVDatasetV2", "SaveDataset", "SaveDatasetV2", "LoadDataset",
    "SnapshotDataset", "SnapshotDatasetV2", "ImportEvent", "WriteSummary", "WriteGraphSummary", "CreateSummaryFileWriter",
    "DebugIdentity", "DebugIdentityV2", "DebugNanCount", "RpcClient", "RpcServer", "RpcCall", "DataServiceDataset",
    "RegisterDataset", "GeneratorDataset", "Save", "SaveSlices", "Restore", "RestoreSlice", "CacheDataset",
    "ImmutableConst", "RemoteCall", "Send", "Recv", "_Send", "_Recv", "TPUCompile",
}  # fmt: skip


class Finding(BaseModel):
    """Something that inspection saw."""

    model_config = {"frozen": True}

    severity: Literal["dangerous", "suspicious", "note"]
    kind: str
    where: str
    message: str


def inspect_bundle(folder: Path, manifest: Manifest) -> list[Finding]:
    """Everything worth knowing of a fetched bundle before it is loaded. Loads nothing; may import TensorFlow's protobufs."""
    findings = list(_files(folder, manifest))
    own_module = manifest.definition.reference.rpartition(":")[0]
    configs: list[tuple[str, Any]] = [("manifest.json: compile", manifest.carried.compile)]
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file():
            continue
        if path.suffix == ".h5":
            findings += _hdf5(path, entry.path, configs)
        elif path.name == "saved_model.pb":
            findings += _saved_model(path, entry.path)
    for where, config in configs:
        findings += _config(config, where, own_module)
    return findings


def refuse_dangerous(findings: list[Finding], subject: str) -> None:
    """Raise UnsafeError where a finding is dangerous."""
    dangerous = [f for f in findings if f.severity == "dangerous"]
    if dangerous:
        lines = "\n".join(f"  {f.kind}: {f.where}: {f.message}" for f in dangerous[:10])
        raise UnsafeError(f"{subject} was refused; nothing of it was loaded.\n{lines}")


def _files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    declared = {f.path for f in manifest.files} | {MANIFEST}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield Finding(severity="dangerous", kind="link", where=name, message="a symbolic link")
        elif path.is_file() and name not in declared:
            yield Finding(
                severity="dangerous", kind="undeclared", where=name, message="a file that the manifest does not name"
            )
    for name in sorted(declared - {MANIFEST}):
        if not (folder / name).is_file():
            yield Finding(
                severity="dangerous", kind="missing", where=name, message="declared by the manifest, but not there"
            )


def _config(config: Any, where: str, own_module: str) -> Iterator[Finding]:
    """Walk a Keras configuration at any depth, without recursion: its nesting is the writer's choice."""
    stack = [(config, where)]
    while stack:
        node, place = stack.pop()
        if isinstance(node, list):
            stack += [(child, f"{place}[{i}]") for i, child in enumerate(node)]
        if not isinstance(node, dict):
            continue
        stack += [(child, f"{place}.{key}") for key, child in node.items()]
        name, module = str(node.get("class_name", "")), node.get("module")
        if name in _ACTIVE or name == "__lambda__":
            yield Finding(severity="dangerous", kind="code", where=place, message=f"{name} can run code or load other files")
        elif "class_name" in node and module is not None and not _is_keras(str(module)):
            severity: Literal["dangerous", "note"] = "note" if module == own_module else "dangerous"
            message = f"{name} is of the module {module!r}"
            yield Finding(severity=severity, kind="foreign class", where=place, message=message)


def _is_keras(module: str) -> bool:
    # The module `builtins` marks plain functions and types that Keras looks up among its own objects.
    return module in {"keras", "builtins"} or module.startswith("keras.")


def _hdf5(path: Path, name: str, configs: list[tuple[str, Any]]) -> list[Finding]:
    import h5py  # 0.15 s

    findings: list[Finding] = []
    try:
        with h5py.File(path, "r") as file:
            groups, seen = [("", file)], set()
            while groups:
                place, group = groups.pop()
                # Hard links may make a group its own grandchild.
                address = h5py.h5o.get_info(group.id).addr
                if address in seen:
                    continue
                seen.add(address)
                for key in group:
                    where = f"{place}/{key}"
                    link = group.get(key, getlink=True)
                    if not isinstance(link, h5py.HardLink):
                        findings.append(_dangerous("link", f"{name}:{where}", "an HDF5 link to somewhere else"))
                        continue
                    child = group[key]
                    if isinstance(child, h5py.Group):
                        groups.append((where, child))
                    elif isinstance(child, h5py.Dataset) and (child.external or child.is_virtual):
                        findings.append(_dangerous("link", f"{name}:{where}", "a dataset stored in another file"))
            for attribute in ("model_config", "training_config"):
                if attribute in file.attrs:
                    configs.append((f"{name}: {attribute}", json.loads(file.attrs[attribute])))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        findings.append(_dangerous("malformed", name, f"not a readable HDF5 file: {error!s:.200}"))
    return findings


def _saved_model(path: Path, name: str) -> list[Finding]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2  # imports TensorFlow

    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError:
        return [_dangerous("malformed", name, "not a SavedModel")]
    findings = []
    for graph in proto.meta_graphs:
        nodes = [("graph", node) for node in graph.graph_def.node]
        nodes += [(f.signature.name, node) for f in graph.graph_def.library.function for node in f.node_def]
        for function, node in nodes:
            if node.op in _HOST_OPERATIONS:
                message = f"the operation {node.op} reaches outside the model"
                findings.append(_dangerous("operation", f"{name}:{function}/{node.name}", message))
    return findings


def _dangerous(kind: str, where: str, message: str) -> Finding:
    return Finding(severity="dangerous", kind=kind, where=where, message=message)
