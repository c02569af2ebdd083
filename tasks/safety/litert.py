"""LiteRT (TensorFlow Lite) models: a flatbuffer, whose every offset is checked, and its operations.

Field positions are those of `schema.fbs`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator

from tasks.safety.files import Budget, Context, File, is_bomb
from tasks.safety.findings import Finding, MalformedError, dangerous, suspicious
from tasks.safety.graph_files import NAMING
from tasks.safety.saved_model import allow_list

MAGIC = b"TFL3"
_CODES, _SUBGRAPHS, _BUFFERS = 1, 2, 4
_DEPRECATED_BUILTIN, _CUSTOM_CODE, _BUILTIN = 0, 1, 3
_TENSORS, _OPERATORS = 0, 3
_CUSTOM_OPTIONS = 5
_CUSTOM = 32
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{2,60}")
# Operations of LiteRT that are written as custom ones for historical reasons; they only compute.
_HARMLESS = {"TFLite_Detection_PostProcess", "Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D"}


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """Operations, tensors and buffers."""
    flat = _Flatbuffer(file.data, context.budget)
    if bytes(file.data[4:8]) != MAGIC:
        raise MalformedError("not a LiteRT model")
    model = flat.offset(0)
    for code in flat.tables(model, _CODES):
        name = flat.text(code, _CUSTOM_CODE)
        builtin = max(flat.number(code, _DEPRECATED_BUILTIN, "b"), flat.number(code, _BUILTIN, "i"))
        if name or builtin == _CUSTOM:
            yield from _custom(name, f"{file.name}:{name}")
    for subgraph in flat.tables(model, _SUBGRAPHS):
        for tensor in flat.tables(subgraph, _TENSORS):
            elements = math.prod(max(0, n) for n in flat.numbers(tensor, 0))
            if is_bomb(elements, file.stored):
                where = f"{file.name}:{flat.text(tensor, 3)}"
                yield dangerous("bomb", where, f"a tensor of {elements:,} elements, and {file.stored:,} bytes are stored")
        for operator in flat.tables(subgraph, _OPERATORS):
            yield from _options(flat.bytes(operator, _CUSTOM_OPTIONS), file)
    for buffer in flat.tables(model, _BUFFERS):
        flat.bytes(buffer, 0)
        offset, size = flat.number(buffer, 1, "Q"), flat.number(buffer, 2, "Q")
        if offset > 1 and offset + size > len(file.data):
            raise MalformedError("a buffer lies outside of the file")


def _custom(name: str, where: str) -> Iterator[Finding]:
    if name in _HARMLESS:
        return
    if name.startswith("Flex"):
        op = name.removeprefix("Flex")
        if op in NAMING or op not in allow_list().operations:
            deed = allow_list().reaches.get(op, "is not one that models need")
            yield dangerous("operation", where, f"TensorFlow's operation {op} {deed}")
        return
    yield suspicious("operation", where, f"{name or 'an operation without a name'} is code that the host must bring along")


def _options(options: memoryview, file: File) -> Iterator[Finding]:
    """What TensorFlow's delegate runs is named in the operator's options, whatever its code is called."""
    refused = allow_list().reaches
    for match in _WORD.finditer(options):
        word = match.group().decode()
        if word in refused or word in NAMING:
            message = f"TensorFlow's operation {word} {refused.get(word, 'opens files')}"
            yield dangerous("operation", f"{file.name}:{word}", message)


class _Flatbuffer:
    """Tables of a flatbuffer; every read is within the file."""

    def __init__(self, data: memoryview, budget: Budget) -> None:
        self._data, self._budget = data, budget

    def offset(self, at: int) -> int:
        """What an offset points at."""
        return at + self._read("I", at)

    def tables(self, table: int, field: int) -> Iterator[int]:
        """A vector of tables."""
        start = self._vector(table, field)
        if start is None:
            return
        for i in range(self._read("I", start)):
            self._budget.spend()
            yield self.offset(start + 4 + 4 * i)

    def numbers(self, table: int, field: int) -> list[int]:
        """A vector of 32-bit numbers."""
        start = self._vector(table, field)
        if start is None:
            return []
        count = self._read("I", start)
        self._budget.spend(count)
        if start + 4 + 4 * count > len(self._data):
            raise MalformedError("a list goes beyond the end of the file")
        return list(struct.unpack_from(f"<{count}i", self._data, start + 4))

    def bytes(self, table: int, field: int) -> memoryview:
        """A vector of bytes."""
        start = self._vector(table, field)
        if start is None:
            return memoryview(b"")
        count = self._read("I", start)
        if start + 4 + count > len(self._data):
            raise MalformedError("a list goes beyond the end of the file")
        return self._data[start + 4 : start + 4 + count]

    def text(self, table: int, field: int) -> str:
        """A text, cut to what a name can be."""
        return bytes(self.bytes(table, field)[:200]).decode("utf-8", "replace")

    def number(self, table: int, field: int, kind: str) -> int:
        """A number of a kind of `struct`'s, 0 where the table does not have it."""
        at = self._field(table, field)
        return self._read(kind, at) if at is not None else 0

    def _vector(self, table: int, field: int) -> int | None:
        at = self._field(table, field)
        return None if at is None else self.offset(at)

    def _field(self, table: int, field: int) -> int | None:
        fields = table - self._read("i", table)
        size = self._read("H", fields)
        position = 4 + 2 * field
        if position + 2 > size:
            return None
        offset = self._read("H", fields + position)
        return table + offset if offset else None

    def _read(self, kind: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(f"<{kind}") > len(self._data):
            raise MalformedError("an offset points outside of the file")
        (value,) = struct.unpack_from(f"<{kind}", self._data, at)
        return int(value)
