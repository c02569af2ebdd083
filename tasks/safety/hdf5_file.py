"""The structure of an HDF5 file, read from its bytes by the format's specification, without the HDF5 library.

The library is written in C and can be made to crash by a malformed file, before any check of ours could run. Here nothing
is read but addresses, names and sizes, each within the file's bounds and once. What `h5py` writes by default, and so all
that Keras writes, is understood; anything else of the format is refused by name, so that the library meets no file whose
structure was not seen whole.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.safety.files import TEXT, Budget
from tasks.safety.findings import MalformedError

MAGIC = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 0xFFFFFFFFFFFFFFFF
_LONGEST_NAME = 4096

_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL_FILES, _LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
_FILTERS, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO, _LAST_MESSAGE = 0x0B, 0x0C, 0x10, 0x11, 0x15, 0x18
_ONCE = {_DATASPACE, _LINK_INFO, _DATATYPE, _EXTERNAL_FILES, _LAYOUT, _FILTERS, _SYMBOL_TABLE, _ATTRIBUTE_INFO}
_SHARED = 0x02
_FIXED_STRING, _VARIABLE_LENGTH = 3, 9
_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = 0, 1, 2, 3
_CACHED_GROUP, _CACHED_LINK = 1, 2


@dataclass(frozen=True, slots=True)
class Link:
    """A name in a group; `target` is the address of an object, or None where it leads elsewhere (`kind` says how)."""

    name: str
    target: int | None
    kind: str = "hard"


@dataclass(slots=True)
class Node:
    """What an object's header says.

    Attributes:
        links: For a group, what is in it.
        attributes: Text attributes by name; None for a value of another type.
        declared: Bytes that a dataset has by its shape and type; None for what is no dataset.
        allocated: Bytes that are stored for it, as far as the header tells.
        external: Whether its bytes are in another file.
        virtual: Whether it is put together from other datasets.
        filters: Numbers of the filters that its chunks went through.
    """

    links: list[Link] = field(default_factory=list)
    attributes: dict[str, bytes | None] = field(default_factory=dict)
    declared: int | None = None
    allocated: int = 0
    external: bool = False
    virtual: bool = False
    filters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Message:
    kind: int
    flags: int
    start: int
    size: int


class Hdf5:
    """A file whose superblock was read.

    Raises:
        MalformedError: The bytes contradict the format, or use a part of it that `h5py` does not write by default.
    """

    def __init__(self, data: memoryview, budget: Budget) -> None:
        self._data, self._budget = data, budget
        if bytes(data[:8]) != MAGIC:
            raise MalformedError("it does not begin as an HDF5 file does")
        version = data[8]
        if version in {0, 1}:
            sizes, at = (data[13], data[14]), 24 if version == 0 else 28
            base, _, end, extension = struct.unpack_from("<QQQQ", data, at)
            _, self.root, cached = struct.unpack_from("<QQI", data, at + 32)
            self._cached = struct.unpack_from("<QQ", data, at + 56) if cached == _CACHED_GROUP else None
        elif version in {2, 3}:
            sizes = data[9], data[10]
            base, extension, end, self.root = struct.unpack_from("<QQQQ", data, 12)
            self._cached = None
        else:
            raise MalformedError(f"version {version} of the format is not known")
        # An extension can hold a cache that the library believes in place of what stands at an object's own address.
        if sizes != (8, 8) or base != 0 or extension != _UNDEFINED:
            raise MalformedError("it is laid out as h5py does not lay out files (sizes, base, driver or extension)")
        if end > len(data):
            raise MalformedError(f"it is cut off: {len(data):,} of {end:,} bytes are there")
        self.end = end

    def node(self, address: int) -> Node:
        """Read one object's header."""
        node = Node()
        messages = list(self._messages(address))
        kinds = [m.kind for m in messages]
        if any(kinds.count(kind) > 1 for kind in _ONCE & set(kinds)):
            raise MalformedError(f"the object at {address} says something twice")
        by_kind = {m.kind: m for m in messages}
        for message in messages:
            if message.flags & _SHARED and message.kind != _DATATYPE:
                raise MalformedError(f"a shared message of type {message.kind}, which h5py does not write")
            if message.kind == _SYMBOL_TABLE:
                node.links += self._symbol_table(message, address == self.root)
            elif message.kind == _LINK:
                node.links.append(self._link(message))
            elif message.kind in {_LINK_INFO, _ATTRIBUTE_INFO}:
                self._refuse_dense(message)
            elif message.kind == _ATTRIBUTE:
                name, value = self._attribute(message)
                if name in node.attributes:
                    raise MalformedError(f"two attributes {name!r} of one object, and readers differ in which one they take")
                node.attributes[name] = value
            elif message.kind == _EXTERNAL_FILES:
                node.external = True
            elif message.kind == _FILTERS:
                node.filters = self._filters(message)
        if _LAYOUT in by_kind:
            if _DATASPACE not in by_kind or _DATATYPE not in by_kind:
                raise MalformedError(f"the dataset at {address} has no shape or no type")
            count = self._elements(by_kind[_DATASPACE].start)
            node.declared = count * self._item_size(by_kind[_DATATYPE])
            self._layout(by_kind[_LAYOUT], node)
        return node

    # Object headers

    def _messages(self, address: int) -> Iterator[_Message]:
        if self._bytes(address, 4) == b"OHDR":
            yield from self._messages2(address)
        else:
            yield from self._messages1(address)

    def _messages1(self, address: int) -> Iterator[_Message]:
        version, count, size = struct.unpack("<BxHxxxxI", self._bytes(address, 12))
        if version != 1:
            raise MalformedError(f"there is no object at {address}")
        blocks = [(address + 16, size)]
        while blocks:
            at, size = blocks.pop(0)
            stop = self._within(at, size)
            while at + 8 <= stop:
                kind, length, flags = struct.unpack_from("<HHB", self._data, at)
                count -= 1
                yield self._message(kind, flags, at + 8, length, stop, blocks, 0)
                at += 8 + length
        if count != 0:  # the library reads them all, however many it was told
            raise MalformedError(f"the object at {address} has another number of messages than it says")

    def _messages2(self, address: int) -> Iterator[_Message]:
        version, flags = self._bytes(address + 4, 2)
        if version != 2:  # noqa: PLR2004
            raise MalformedError(f"there is no object at {address}")
        at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(self._bytes(at, width), "little")
        header = 6 if flags & 4 else 4
        blocks = [(at + width, size)]
        while blocks:
            at, size = blocks.pop(0)
            stop = self._within(at, size)
            while at + header <= stop:
                kind, length, message_flags = struct.unpack_from("<BHB", self._data, at)
                yield self._message(kind, message_flags, at + header, length, stop, blocks, 4)
                at += header + length

    def _message(
        self, kind: int, flags: int, start: int, size: int, stop: int, blocks: list[tuple[int, int]], signature: int
    ) -> _Message:
        self._budget.spend()
        if start + size > stop:
            raise MalformedError("a message goes beyond its header")
        if kind >= _LAST_MESSAGE or kind == 0x09:  # noqa: PLR2004
            raise MalformedError(f"a message of type {kind}, which the format does not have")
        if kind == _CONTINUATION:
            at, length = struct.unpack("<QQ", self._bytes(start, 16))
            if signature and self._bytes(at, 4) != b"OCHK":
                raise MalformedError("a header's continuation is none")
            # The signature before and the checksum after the messages of version 2.
            blocks.append((at + signature, length - 2 * signature))
        return _Message(kind, flags, start, size)

    # Groups

    def _symbol_table(self, message: _Message, is_root: bool) -> Iterator[Link]:
        tree, heap = struct.unpack("<QQ", self._bytes(message.start, 16))
        if is_root and self._cached not in {None, (tree, heap)}:
            raise MalformedError("the superblock and the root group disagree about what is in it")
        if self._bytes(heap, 4) != b"HEAP":
            raise MalformedError("a group's names are not where it says")
        size, _, names = struct.unpack("<QQQ", self._bytes(heap + 8, 24))
        self._within(names, size)
        for leaf in self._leaves(tree):
            magic, count = struct.unpack("<4sxxH", self._bytes(leaf, 8))
            if magic != b"SNOD":
                raise MalformedError("a group's entries are not where it says")
            for i in range(count):
                self._budget.spend()
                offset, target, cached, scratch = struct.unpack("<QQI4xI12x", self._bytes(leaf + 8 + 40 * i, 40))
                name = self._string(names, offset, size)
                if cached == _CACHED_LINK:
                    yield Link(name, None, f"soft link to {self._string(names, scratch, size)!r}")
                else:
                    yield Link(name, target)

    def _leaves(self, tree: int) -> Iterator[int]:
        stack, seen = [tree], set()
        while stack:
            at = stack.pop()
            if at in seen:
                raise MalformedError("a group's index goes in circles")
            seen.add(at)
            magic, kind, level, count = struct.unpack("<4sBBH", self._bytes(at, 8))
            if magic != b"TREE" or kind != 0:
                raise MalformedError("a group's index is not where it says")
            children = [self._number(at + 24 + 8 + 16 * i) for i in range(count)]
            self._budget.spend(count)
            if level == 0:
                yield from children
            else:
                stack += reversed(children)

    def _link(self, message: _Message) -> Link:
        at, stop = message.start, message.start + message.size
        version, flags = self._bytes(at, 2)
        if version != 1:
            raise MalformedError("a link of an unknown version")
        at += 2
        kind = 0
        if flags & 8:
            (kind,) = self._bytes(at, 1)
            at += 1
        at += (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        length = int.from_bytes(self._bytes(at, width), "little")
        at += width
        name = self._bytes(at, min(length, stop - at)).decode("utf-8", "replace")
        if kind == 0:
            return Link(name, self._number(at + length))
        return Link(name, None, "soft link" if kind == 1 else "link into another file or of the writer's own kind")

    def _refuse_dense(self, message: _Message) -> None:
        _, flags = self._bytes(message.start, 2)
        wide = 8 if message.kind == _LINK_INFO else 2
        if self._number(message.start + 2 + (wide if flags & 1 else 0)) != _UNDEFINED:
            raise MalformedError(
                "it uses HDF5's dense storage of names, which Keras does not write and inspection does not read"
            )

    # Datasets

    def _elements(self, at: int) -> int:
        version, rank, flags = self._bytes(at, 3)
        if version == 1:
            at += 8
        elif version == 2:  # noqa: PLR2004
            if self._bytes(at + 3, 1) == b"\x02":  # a null dataspace
                return 0
            at += 4
        else:
            raise MalformedError("a shape of an unknown version")
        del flags
        return math.prod(struct.unpack(f"<{rank}Q", self._bytes(at, 8 * rank)))

    def _item_size(self, message: _Message) -> int:
        if not message.flags & _SHARED:
            return self._type(message.start)[1]
        version, kind = self._bytes(message.start, 2)
        if version == 3 and kind != 2:  # noqa: PLR2004
            raise MalformedError("a type that is shared through a heap, which h5py does not write")
        named = self._number(message.start + (8 if version == 1 else 2))
        for found in self._messages(named):
            if found.kind == _DATATYPE and not found.flags & _SHARED:
                return self._type(found.start)[1]
        raise MalformedError("a type is not where it should be")

    def _type(self, at: int) -> tuple[int, int]:
        """Class and size in bytes."""
        first, _, size = struct.unpack("<B3sI", self._bytes(at, 8))
        return first & 15, size

    def _layout(self, message: _Message, node: Node) -> None:
        version, kind = self._bytes(message.start, 2)
        if version not in {3, 4}:
            raise MalformedError("a dataset of a version that was never written by h5py")
        if kind == _COMPACT:
            (node.allocated,) = struct.unpack("<H", self._bytes(message.start + 2, 2))
        elif kind == _CONTIGUOUS:
            address, size = struct.unpack("<QQ", self._bytes(message.start + 2, 16))
            if address != _UNDEFINED and not node.external:
                self._within(address, size)
                node.allocated = size
        elif kind == _CHUNKED:
            node.allocated = len(self._data)  # at most
        elif kind == _VIRTUAL:
            node.virtual = True
        else:
            raise MalformedError(f"a dataset of an unknown kind ({kind})")
        if kind in {_COMPACT, _CONTIGUOUS} and node.allocated and node.allocated < (node.declared or 0):
            raise MalformedError("a dataset's shape is larger than its bytes")

    def _filters(self, message: _Message) -> tuple[int, ...]:
        version, count = self._bytes(message.start, 2)
        at = message.start + (8 if version == 1 else 2)
        found = []
        for _ in range(count):
            (number,) = struct.unpack("<H", self._bytes(at, 2))
            at += 2
            named = version == 1 or number >= 256  # noqa: PLR2004
            length = int.from_bytes(self._bytes(at, 2), "little") if named else 0
            at += 2 if named else 0
            _, values = struct.unpack("<HH", self._bytes(at, 4))
            padded = -(-length // 8) * 8 if version == 1 else length
            at += 4 + padded + 4 * values + (4 if version == 1 and values % 2 else 0)
            found.append(number)
        return tuple(found)

    # Attributes

    def _attribute(self, message: _Message) -> tuple[str, bytes | None]:
        at = message.start
        version, flags, name_size, type_size, space_size = struct.unpack("<BBHHH", self._bytes(at, 8))
        if version not in {1, 2, 3}:
            raise MalformedError("an attribute of an unknown version")
        padding = 8 if version == 1 else 1
        at += 9 if version == 3 else 8  # noqa: PLR2004
        name = self._bytes(at, name_size).split(b"\0")[0].decode("utf-8", "replace")
        at += -(-name_size // padding) * padding
        type_at = at
        at += -(-type_size // padding) * padding
        space_at = at
        at += -(-space_size // padding) * padding
        if version > 1 and flags:
            return name, None  # of a named type, as no text is
        kind, size = self._type(type_at)
        if kind == _FIXED_STRING:
            return name, self._bytes(at, size)
        is_text = kind == _VARIABLE_LENGTH and self._bytes(type_at + 1, 1)[0] & 15 == 1
        if is_text and self._elements(space_at) == 1:
            return name, self._heap_object(at)
        return name, None

    def _heap_object(self, at: int) -> bytes:
        length, address, index = struct.unpack("<IQI", self._bytes(at, 16))
        if length == 0:
            return b""
        magic, size = struct.unpack("<4s4xQ", self._bytes(address, 16))
        if magic != b"GCOL":
            raise MalformedError("a text is not where it should be")
        stop = self._within(address, size)
        at = address + 16
        texts: list[tuple[int, int]] = []
        while at + 16 <= stop:
            number, _, size = struct.unpack("<HH4xQ", self._bytes(at, 16))
            self._budget.spend()
            if number == index:
                texts.append((at + 16, size))
            # Free space counts its own header, and something may follow it.
            at += max(size, 16) if number == 0 else 16 + -(-size // 8) * 8
        if len(texts) != 1:  # of two, the library takes the last
            raise MalformedError("a text is not where it should be, or there twice")
        [(at, size)] = texts
        if length > size or length > TEXT:
            raise MalformedError("a text is longer than what is stored of it, or than any configuration")
        return self._bytes(at, length)

    # Bytes

    def _bytes(self, at: int, count: int) -> bytes:
        self._within(at, count)
        return bytes(self._data[at : at + count])

    def _within(self, at: int, count: int) -> int:
        if count < 0 or at < 0 or at + count > self.end:
            raise MalformedError(f"an address ({at}) is outside of the file")
        return at + count

    def _number(self, at: int) -> int:
        return int.from_bytes(self._bytes(at, 8), "little")

    def _string(self, heap: int, offset: int, size: int) -> str:
        if offset >= size:
            raise MalformedError("a name is not where it should be")
        raw = self._bytes(heap + offset, min(size - offset, _LONGEST_NAME))
        return raw.split(b"\0")[0].decode("utf-8", "replace")
