"""NumPy's `.npy`, as in `.npz`: the header, read as text. An array of objects is a pickle, and a pickle is code."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator

from tasks.safety.files import Context, File, is_bomb
from tasks.safety.findings import Finding, MalformedError, dangerous

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000
_HEADER = re.compile(r"\{'descr': '([^']{1,40})', 'fortran_order': (?:True|False), 'shape': \(([0-9, L]*)\), ?\}\s*")
_ITEM = re.compile(r"[<>|=]?[a-zA-Z](\d*)")


def inspect(file: File, context: Context) -> Iterator[Finding]:
    """Type and shape of one array."""
    del context
    header = _header(file.data)
    match = _HEADER.fullmatch(header)
    if not match:
        yield dangerous("unreadable", file.name, f"not an array of plain numbers or strings: {header[:120]!r}")
        return
    descr, shape = match.groups()
    if "O" in descr:
        yield dangerous("pickle", file.name, "an array of Python objects is a pickle, which runs code when it is opened")
    item = _ITEM.fullmatch(descr)
    size = int((item and item.group(1)) or 1) * (4 if "U" in descr else 1)
    declared = math.prod(int(n.strip("L")) for n in shape.replace(" ", "").split(",") if n) * size
    if is_bomb(declared, file.stored):
        yield dangerous("bomb", file.name, f"it declares {declared:,} bytes, and {file.stored:,} are stored")


def _header(data: memoryview) -> str:
    if bytes(data[:6]) != MAGIC:
        raise MalformedError("not an array of NumPy's")
    if data[6] == 1:
        (length,), start = struct.unpack_from("<H", data, 8), 10
    else:
        (length,), start = struct.unpack_from("<I", data, 8), 12
    if length > _LONGEST_HEADER or start + length > len(data):
        raise MalformedError("its header is longer than NumPy would read, or than the file")
    return bytes(data[start : start + length]).decode("latin-1")
