"""Zip archives: `.keras` and `.npz`. Only the directory is read, and of each member what its own inspector looks at.

Python's `zipfile` reads more than one archive in the same bytes can be: what a reader sees depends on where it starts to
look. So an archive must be exactly one: it begins with its first member and ends with its directory, and both name the
members alike.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.safety.files import UNPACKED, Context, File, is_bomb, leaves_its_folder
from tasks.safety.findings import Finding, MalformedError, dangerous, suspicious

MAGIC = b"PK\x03\x04"
EMPTY = b"PK\x05\x06"
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_SIZE, _LONGEST_COMMENT = 22, 65_535
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
_UNIX = 3
_ZIP64 = 0xFFFFFFFF
_SIZES64, _OTHER_NAME = 0x0001, 0x7075

# What Keras writes into an archive; anything else is a stranger there.
_KERAS_MEMBERS = {"metadata.json", "config.json", "model.weights.h5", "model.weights.npz"}
_NPY_HEADER = 12_000


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the directory."""

    name: str
    offset: int
    packed: int
    size: int
    method: int
    flags: int
    mode: int


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """The directory, and each member as a file of its own."""
    members = list(_members(file, context))
    yield from _directory(file, members)
    names = {m.name for m in members}
    keras = "config.json" in names or file.short_name.endswith(".keras")
    arrays = not keras and all(name.endswith(".npy") for name in names)
    for member in members:
        place = f"{file.name}: {member.name}"
        if member.name.endswith("/"):
            if member.size or member.packed:
                yield dangerous("malformed", place, "a folder with content, which readers take for a file")
            continue
        if keras and member.name not in _KERAS_MEMBERS and not member.name.startswith("assets/"):
            yield suspicious("unknown member", place, "nothing that Keras writes into an archive")
        data = _content(file, member, _NPY_HEADER if arrays else None)
        if isinstance(data, Finding):
            yield data
        else:
            yield file.part(member.name, data, _kind(member.name, keras))
    if keras and "config.json" not in names:
        yield dangerous("malformed", file.name, "a .keras archive without a config.json")


def _kind(name: str, keras: bool) -> str | None:
    return "keras config" if keras and name == "config.json" else None


def _members(file: File, context: Context) -> Iterator[Member]:
    at, count, size, end = _directory_place(file.data)
    context.budget.spend(count)
    stop = at + size
    if stop != end:
        raise MalformedError("the archive's directory does not end where its end begins")
    for _ in range(count):
        if bytes(file.data[at : at + 4]) != b"PK\x01\x02":
            raise MalformedError("the archive's directory has fewer entries than it says")
        made, _, flags, method, _, _, _, packed, unpacked, name, extra, comment, _, _, mode, offset = struct.unpack_from(
            "<HHHHHHIIIHHHHHII", file.data, at + 4
        )
        raw = bytes(file.data[at + 46 : at + 46 + name])
        more = file.data[at + 46 + name : at + 46 + name + extra]
        unpacked, packed, offset = _sizes64(more, unpacked, packed, offset)
        mode = mode >> 16 if made >> 8 == _UNIX else 0
        yield Member(raw.decode("utf-8", "replace"), offset, packed, unpacked, method, flags, mode)
        at += 46 + name + extra + comment
    if at != stop:
        raise MalformedError("the archive's directory has more entries than it says")


def _directory_place(data: memoryview) -> tuple[int, int, int, int]:
    """Where the directory begins, its entries, its size, and where it must end."""
    tail = bytes(data[-_END_SIZE - _LONGEST_COMMENT :])
    found = tail.rfind(_END)
    if found < 0 or len(tail) - found < _END_SIZE:
        raise MalformedError("it has no end of an archive: no zip file, or one that was cut off")
    end = len(data) - len(tail) + found
    _, _, _, count, size, offset, comment = struct.unpack_from("<HHHHIIH", tail, found + 4)
    if end + _END_SIZE + comment != len(data):
        raise MalformedError("there are bytes after the archive's end")
    if bytes(data[max(0, end - 20) : end - 16]) == _LOCATOR64:
        (at,) = struct.unpack_from("<Q", data, end - 12)
        if bytes(data[at : at + 4]) != _END64 or at + 56 != end - 20:
            raise MalformedError("the archive's 64-bit end is not where it should be")
        count, size, offset = struct.unpack_from("<QQQ", data, at + 32)
        end = at
    return offset, count, size, end


def _sizes64(extra: memoryview, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The 64-bit numbers from an entry's extra field, where the 32-bit ones say so."""
    values, at, seen = [size, packed, offset], 0, False
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4
        if kind == _OTHER_NAME or (kind == _SIZES64 and seen):  # newer Pythons take that name in place of the entry's own
            raise MalformedError("a member has a second name, or says its size twice")
        if kind == _SIZES64:
            seen = True
            for position, i in enumerate(i for i, value in enumerate((size, packed, offset)) if value == _ZIP64):
                (values[i],) = struct.unpack_from("<Q", extra, at + 8 * position)
        at += length
    return values[0], values[1], values[2]


def _directory(file: File, members: list[Member]) -> Iterator[Finding]:
    seen: set[str] = set()
    for member in members:
        place = f"{file.name}: {member.name}"
        if member.name in seen:
            yield dangerous("duplicate", place, "two members of this name, and readers differ in which one they take")
        seen.add(member.name)
        if leaves_its_folder(member.name):
            yield dangerous("path", place, "unpacked, this member would lie outside of its folder")
        if member.mode and stat.S_ISLNK(member.mode):
            yield dangerous("link", place, "a symbolic link")
        if member.flags & _ENCRYPTED:
            yield dangerous("unreadable", place, "this member is encrypted, so that nobody can inspect it")
    # The container's own size also where this archive lies inside another: what is not stored can't be unpacked.
    declared = sum(m.size for m in members)
    if is_bomb(declared, file.stored):
        message = f"its members declare {declared:,} bytes, and {file.stored:,} are stored"
        yield dangerous("bomb", file.name, message)
    yield from _layout(file, sorted(members, key=lambda m: m.offset))


def _layout(file: File, members: list[Member]) -> Iterator[Finding]:
    """Members must follow one another, from the first byte on, and be called alike in both places."""
    end = 0
    for member in members:
        start = _data_start(file.data, member)
        if member.offset < end:
            yield dangerous("malformed", f"{file.name}: {member.name}", "this member lies over another one")
        end = start + member.packed
        if end > len(file.data):
            raise MalformedError(f"the member {member.name!r} is cut off")
        (length,) = struct.unpack_from("<H", file.data, member.offset + 26)
        local = bytes(file.data[member.offset + 30 : member.offset + 30 + length]).decode("utf-8", "replace")
        if local != member.name:
            yield dangerous("malformed", f"{file.name}: {member.name}", f"it calls itself {local!r}")
    if members and members[0].offset != 0:
        raise MalformedError("there is something before the archive's first member")


def _data_start(data: memoryview, member: Member) -> int:
    if bytes(data[member.offset : member.offset + 4]) != MAGIC:
        raise MalformedError(f"the member {member.name!r} is not where the archive's directory says")
    name, extra = struct.unpack_from("<HH", data, member.offset + 26)
    return int(member.offset + 30 + name + extra)


def _content(file: File, member: Member, limit: int | None) -> memoryview | bytes | Finding:
    """A member's bytes; of a packed one the first `limit`, where its inspector needs no more."""
    place = f"{file.name}: {member.name}"
    start = _data_start(file.data, member)
    packed = file.data[start : start + member.packed]
    if member.method == _STORED:
        return packed
    if member.method != _DEFLATED:
        return dangerous("unreadable", place, f"packed by a method (number {member.method}) that model files never use")
    if member.flags & _ENCRYPTED:
        return b""
    most = min(member.size, UNPACKED) if limit is None else limit
    if limit is None and member.size > UNPACKED:
        return dangerous("unreadable", place, f"{member.size:,} packed bytes, too many to look inside; Keras packs none")
    return zlib.decompressobj(-15).decompress(packed, most) if most else b""
