"""TensorFlow checkpoints: the index of tensors, a sorted table as LevelDB has it, and the files that name others."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator

from tasks.safety.files import Context, File, leaves_its_folder
from tasks.safety.findings import Finding, MalformedError, dangerous, suspicious
from tasks.safety.keras_config import parsed
from tasks.safety.wire import Wire, varint

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48
_LONGEST_KEY = 65_536
# Bytes an element, by TensorFlow's `types.proto`; of any other type each has at least one: a string that of its length.
_ITEM_BYTES = {
    1: 4,
    2: 8,
    3: 4,
    4: 1,
    5: 2,
    6: 1,
    8: 8,
    9: 8,
    10: 1,
    14: 2,
    17: 2,
    18: 16,
    19: 2,
    22: 4,
    23: 8,
    24: 1,
    25: 1,
}
_RESOURCE, _VARIANT = 20, 21
_TYPE, _SHAPE, _SHARD, _OFFSET, _SIZE = 1, 2, 3, 4, 5
_STATE_LINE = re.compile(
    r'(?:(?:all_)?model_checkpoint_paths?: "([^"\\]*)"'
    r"|(?:all_model_checkpoint_timestamps|last_preserved_timestamp): [0-9.e+-]+)?"
)
_STATE_SIZE = 2**20


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """Every tensor of an index: that it lies in a file that is there, and is as large as it says."""
    wire = Wire(file.data, context.budget)
    prefix = file.name.removesuffix(".index")
    shards = 1
    for key, at, end in _entries(wire):
        numbers = {number: value for number, value, stop in wire.fields(at, end) if stop < 0}
        if not key:
            shards = numbers.get(1, 1)
            continue
        where = f"{file.name}:{key.decode('utf-8', 'replace')[:200]}"
        if numbers.get(_TYPE) in {_RESOURCE, _VARIANT}:
            yield suspicious("object", where, "no numbers, but an object that TensorFlow's own code must put together")
        size = numbers.get(_SIZE, 0)
        elements = math.prod(n for shape in wire.messages(_SHAPE, at, end) for n in wire.shape(*shape))
        declared = elements * _ITEM_BYTES.get(numbers.get(_TYPE, 0), 1)
        if declared > size and not any(True for _ in wire.messages(7, at, end)):  # not one that lies in slices
            yield dangerous("bomb", where, f"it declares {declared:,} bytes, and {size:,} are stored")
        yield from _place(context, f"{prefix}.data-{numbers.get(_SHARD, 0):05d}-of-{shards:05d}", where, numbers)


def inspect_state(file: File, context: Context) -> Iterator[Finding | File]:
    """The file `checkpoint`, which names the newest one; it must be one of its own folder."""
    if len(file.data) > _STATE_SIZE:
        raise MalformedError("too large for a list of checkpoints")
    for line in bytes(file.data).decode("utf-8").splitlines():
        match = _STATE_LINE.fullmatch(line.strip())
        if not match:
            raise MalformedError(f"not a line that TensorFlow writes: {line[:120]!r}")
        path = match.group(1)
        if path is None:
            continue
        if leaves_its_folder(path):
            yield dangerous("path", file.name, f"it points to the checkpoint {path!r}, outside of its folder")
        elif context.sizes and f"{context.beside(file, path)}.index" not in context.sizes and not line.startswith("all_"):
            yield suspicious("missing", file.name, f"it points to the checkpoint {path!r}, which is not there")


def inspect_shards(file: File, context: Context) -> Iterator[Finding | File]:
    """`model.weights.json`: in which file Keras finds each weight."""
    document = parsed(file, context)
    weights = document.get("weight_map", {}) if isinstance(document, dict) else None
    if not isinstance(weights, dict):
        raise MalformedError("not a list of weights and their files")
    names = {n for value in weights.values() for n in (value if isinstance(value, list) else [value])}
    for name in sorted(names, key=str):
        if not isinstance(name, str) or leaves_its_folder(name):
            yield dangerous("path", file.name, f"it names the file {name!r}, outside of its folder")
        elif context.sizes and context.beside(file, name) not in context.sizes:
            yield dangerous("missing", file.name, f"it names the file {name!r}, which is not there")


def _place(context: Context, shard: str, where: str, numbers: dict[int, int]) -> Iterator[Finding]:
    if not context.sizes:
        return
    size = context.sizes.get(shard)
    if size is None:
        yield dangerous("missing", where, f"its values are in {shard!r}, which is not there")
    elif numbers.get(_OFFSET, 0) + numbers.get(_SIZE, 0) > size:
        yield dangerous("malformed", where, f"its values lie beyond the end of {shard!r}")


def _entries(wire: Wire) -> Iterator[tuple[bytes, int, int]]:
    """Key, start and end of the value of every entry of the table."""
    data = wire.data
    if len(data) < _FOOTER or bytes(data[-8:]) != MAGIC:
        raise MalformedError("not the index of a checkpoint, or cut off")
    footer = len(data) - _FOOTER
    _, at = varint(data, footer, len(data))
    _, at = varint(data, at, len(data))
    place, at = varint(data, at, len(data))
    size, _ = varint(data, at, len(data))
    for _, start, stop in _block(wire, place, size):
        offset, at = varint(data, start, stop)
        length, _ = varint(data, at, stop)
        yield from _block(wire, offset, length)


def _block(wire: Wire, start: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    data = wire.data
    stop = start + size
    if stop + 5 > len(data) or size < 4:  # noqa: PLR2004  # type and checksum follow
        raise MalformedError("a block lies outside of the file")
    if data[stop] != 0:
        raise MalformedError("a packed block, which TensorFlow does not write")
    (restarts,) = struct.unpack_from("<I", data, stop - 4)
    stop -= 4 + 4 * restarts
    key = b""
    while start < stop:
        wire.budget.spend()
        shared, start = varint(data, start, stop)
        more, start = varint(data, start, stop)
        length, start = varint(data, start, stop)
        if shared > len(key) or start + more + length > stop or more > _LONGEST_KEY:
            raise MalformedError("an entry contradicts the one before it, or goes beyond its block")
        key = key[:shared] + bytes(data[start : start + more])
        if len(key) > _LONGEST_KEY:
            raise MalformedError("a name is longer than any variable's")
        start += more
        yield key, start, start + length
        start += length
