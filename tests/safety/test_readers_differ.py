"""Bytes that mean one thing to a careless reader and another to the library that loads them."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.safety import inspect_path
from tests.safety.hostile import (
    archive,
    dense,
    lambda_layer,
    library_function,
    node,
    onnx,
    proto,
    saved_model,
    sequential,
    text_constant,
    varint,
)

EVIL, GOOD = json.dumps(sequential(lambda_layer())), json.dumps(sequential(dense()))


def dangers(path: Path) -> set[str]:
    return {finding.kind for finding in inspect_path(path).refused}


# Protocol buffers


def fixed(number: int, eight_bytes: bytes) -> bytes:
    """A field of fixed width in the place of a text, which readers pass over."""
    return varint(number << 3 | 1) + eight_bytes


def called_by(call: bytes) -> list[bytes]:
    """A function that writes where its caller says, and one that calls it."""
    saves = library_function("saves", ["path", "x"], [node("save", "SaveV2", "path", "n", "s", "x")])
    return [saves, library_function("caller", ["x"], [text_constant("p", "/tmp/evil"), call])]


def saves_to(name: str, *nodes: bytes, arguments: tuple[str, ...] = ("x",)) -> list[bytes]:
    return [library_function("f", list(arguments), [*nodes, node("save", "SaveV2", name, "n", "s", "x")])]


def bound_to(*objects: bytes, captures: bytes) -> bytes:
    """An object graph, and which of its objects are bound to the function `fills`."""
    return proto(7, b"".join(objects) + proto(2, proto(1, "fills") + captures))


FILLS = [library_function("fills", ["path", "table"], [node("t", "InitializeTableFromTextFileV2", "table", "path")])]
ASSET, CONSTANT, TABLE = proto(1, proto(5, b"")), proto(1, proto(9, proto(1, "c"))), proto(1, proto(10, b""))
PACKED_TEXT = node("p", "Const", value=proto(8, proto(1, 7) + proto(2, b"") + proto(4, b"\x09/tmp/evil")))
ASSET_TENSOR = proto(6, proto(1, proto(1, "p:0")) + proto(2, "words.txt"))

SAVED_MODELS: dict[str, Callable[[Path], Path]] = {
    "an operation with a number behind its name": lambda folder: saved_model(
        folder, [node("x", "WriteFile", "a", "b") + fixed(2, b"Identity")]
    ),
    "a function's name with something behind it": lambda folder: saved_model(
        folder, [], called_by(node("call", "PartitionedCall", "p", "x", f=proto(10, proto(1, "saves") + proto(6, 1))))
    ),
    "a length that is longer than it must be": lambda folder: saved_model(
        folder, [], called_by(node("call", "PartitionedCall", "p", "x", f=proto(10, b"\x0a\x85\x80\x00saves")))
    ),
    "a function that takes a list": lambda folder: saved_model(
        folder, [], [proto(1, proto(1, "f") + proto(2, proto(1, "x") + proto(5, "N"))) + proto(3, node("n", "NoOp"))]
    ),
    "a placeholder with a default in a function": lambda folder: saved_model(
        folder, [], saves_to("d", text_constant("p", "evil"), node("d", "PlaceholderWithDefault", "p"))
    ),
    "a placeholder with a default elsewhere": lambda folder: saved_model(
        folder,
        [
            text_constant("p", "/tmp/evil"),
            node("d", "PlaceholderWithDefault", "p"),
            node("save", "SaveV2", "d", "n", "s", "x"),
        ],
    ),
    "a constant of a function that is called like an asset": lambda folder: saved_model(
        folder, [], saves_to("p", text_constant("p", "evil")), ASSET_TENSOR
    ),
    "an asset whose constant is elsewhere": lambda folder: saved_model(
        folder, [text_constant("p", "/tmp/evil"), node("save", "SaveV2", "p", "n", "s", "x")], rest=ASSET_TENSOR
    ),
    "a name that is made of the one that was given": lambda folder: saved_model(
        folder, [], saves_to("u", node("u", "UnicodeEncode", "x", "x"))
    ),
    "two constants that make one way up": lambda folder: saved_model(
        folder,
        [],
        saves_to("j", text_constant("a", "_temp/."), text_constant("b", "./evil"), node("j", "StringJoin", "x", "a", "b")),
    ),
    "a way up between two names": lambda folder: saved_model(
        folder, [], saves_to("j", text_constant("a", "a"), node("j", "StringJoin", "x", "a", separator=proto(2, "/../")))
    ),
    "a choice between the given name and another": lambda folder: saved_model(
        folder, [], saves_to("s", text_constant("a", "evil"), node("s", "SelectV2", "x", "x", "a"))
    ),
    "a packed text": lambda folder: saved_model(folder, [], saves_to("j", PACKED_TEXT, node("j", "StringJoin", "x", "p"))),
    "a text that the caller fills in": lambda folder: saved_model(
        folder,
        [],
        saves_to("j", node("p", "Const", value=proto(9, "text")), node("j", "StringJoin", "x", "p")),
    ),
    "a log that the caller names": lambda folder: saved_model(
        folder, [], [library_function("f", ["x"], [node("p", "PrintV2", "x", output_stream=proto(9, "log"))])]
    ),
    "an input before those that a call hands on": lambda folder: saved_model(
        folder,
        [
            node("p", "Placeholder"),
            text_constant("evil", "/tmp/evil"),
            node("if", "If", "p", "evil", "p", then_branch=proto(10, proto(1, "fills"))),
        ],
        FILLS,
    ),
    "an object that is an asset and then a constant": lambda folder: saved_model(
        folder,
        [],
        FILLS,
        bound_to(proto(1, proto(5, b"") + proto(9, proto(1, "c"))), TABLE, captures=proto(2, proto(2, b"\x00\x01"))),
    ),
    "a number that counts as no object": lambda folder: saved_model(
        folder, [], FILLS, bound_to(proto(1, 0), CONSTANT, ASSET, TABLE, captures=proto(2, proto(2, b"\x02\x03")))
    ),
    "two values for one function": lambda folder: saved_model(
        folder,
        [],
        FILLS,
        bound_to(ASSET, CONSTANT, TABLE, captures=proto(2, proto(2, b"\x01")) + proto(2, proto(2, b"\x00\x02"))),
    ),
}


@pytest.mark.parametrize("build", SAVED_MODELS.values(), ids=SAVED_MODELS)
def test_a_saved_model_that_is_not_what_it_seems(build: Callable[[Path], Path], tmp_path: Path) -> None:
    assert dangers(build(tmp_path)) & {"operation", "malformed"}


def test_an_operation_of_onnx_with_a_number_behind_its_domain(tmp_path: Path) -> None:
    path = onnx(tmp_path / "model.onnx", proto(1, proto(4, "PyOp") + proto(7, "ai.evil") + fixed(7, b"own func")))
    path.write_bytes(path.read_bytes() + proto(25, proto(1, "f") + proto(10, "own func")))
    assert dangers(path) == {"operation"}


def test_a_field_of_onnx_whose_number_overflows(tmp_path: Path) -> None:
    """The runtime's reader cuts it to 32 bits, and finds a node."""
    hidden = proto(4, "PyOp") + proto(7, "ai.evil")
    path = onnx(tmp_path / "model.onnx", varint((1 << 3 | 2) + (1 << 32)) + varint(len(hidden)) + hidden)
    assert dangers(path) == {"malformed"}


# HDF5: in each case the library, which reads all of it, comes to the hostile configuration


def configuration(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file.attrs["model_config"])


@pytest.fixture
def h5(tmp_path: Path) -> Path:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = EVIL
        file.attrs["model_confix"] = GOOD
    return path


def test_two_attributes_of_one_name(h5: Path) -> None:
    h5.write_bytes(h5.read_bytes().replace(b"model_confix", b"model_config"))
    assert configuration(h5) == EVIL
    assert dangers(h5) == {"malformed"}


def test_more_messages_than_an_object_says_it_has(h5: Path) -> None:
    content = bytearray(h5.read_bytes())
    (root,) = struct.unpack_from("<Q", content, 64)
    struct.pack_into("<H", content, root + 2, 1)
    h5.write_bytes(content)
    assert configuration(h5) == EVIL
    assert dangers(h5) == {"malformed"}


@pytest.mark.parametrize("free_space_between", [False, True])
def test_two_texts_of_one_number(free_space_between: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = GOOD + " " * (len(EVIL) - len(GOOD))
        file.attrs["free"] = " " * 100
        file.attrs["evil"] = EVIL
        del file.attrs["free"], file.attrs["evil"]
    content = bytearray(path.read_bytes())
    first = content.find(b"GCOL") + 16
    second = content.find(EVIL.encode()) - 16
    assert first < content.find(GOOD.encode()) < second  # what was deleted is still there
    between = first + 16 + -(-len(EVIL) // 8) * 8
    struct.pack_into(
        "<HH4xQ", content, between, 0 if free_space_between else 7, 1, second - between - (0 if free_space_between else 16)
    )
    struct.pack_into("<HH4xQ", content, second, 1, 1, len(EVIL))
    path.write_bytes(content)
    assert configuration(path) == EVIL
    assert dangers(path) == {"malformed"}


def test_a_superblock_with_an_extension(tmp_path: Path) -> None:
    """It may hold an image of the library's cache, which counts for more than what stands at an object's place."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", data=np.zeros(4))
    assert dangers(path) == set()
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, 20, 48)
    path.write_bytes(content)
    assert dangers(path) == {"malformed"}


# Archives


def test_a_member_of_an_archive_with_a_second_name(tmp_path: Path) -> None:
    """Python has taken the Unicode name of the extra field since 3.12, whatever the entry calls itself."""
    path = archive(tmp_path / "model.keras", sequential(dense()))
    with zipfile.ZipFile(path, "a") as file:
        info = zipfile.ZipInfo("assets/notes.txt")
        name = struct.pack("<BL", 1, zlib.crc32(info.filename.encode())) + b"config.json"
        info.extra = struct.pack("<HH", 0x7075, len(name)) + name
        file.writestr(info, EVIL)
    assert dangers(path) == {"malformed"}


def test_a_folder_of_an_archive_that_has_content(tmp_path: Path) -> None:
    """NumPy reads it as an array like any other, whatever shape it declares."""
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy/", b"\x93NUMPY")
    assert dangers(path) == {"malformed"}
