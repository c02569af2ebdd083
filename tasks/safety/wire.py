"""Protocol buffers, read field by field without a schema and without a copy.

TensorFlow's own classes can't be used: importing them imports TensorFlow, and they turn two bytes of a hostile file into
fifty of memory. Here a field that nobody asks for costs one step, however long it is, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.safety.files import Budget
from tasks.safety.findings import MalformedError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CONTINUED = 128
_LONGEST = 10
_LARGEST_TAG = (1 << 32) - 1
_SIGN, _64_BITS = 1 << 63, (1 << 64) - 1

# A field: its number; then start and end of its bytes, or for a number the value and -1.
Field = tuple[int, int, int]


class Wire:
    """The bytes of a message and of all messages in it."""

    def __init__(self, data: memoryview, budget: Budget) -> None:
        self.data, self.budget = data, budget

    def fields(self, at: int, end: int) -> Iterator[Field]:
        """The fields of the message in `data[at:end]`, in their order; none where `end` says that it was a number.

        Those of fixed width are stepped over: none that inspection asks for is one, and one that bears the number of a text
        is ignored by every reader.

        Raises:
            MalformedError: These are no such bytes, or too many fields.
        """
        data, budget = self.data, self.budget
        while at < end:
            budget.steps -= 1
            if budget.steps < 0:
                raise budget.exhausted()
            tag = data[at]
            at += 1
            if tag >= _CONTINUED:
                tag, at = varint(data, at - 1, end)
                if tag > _LARGEST_TAG:
                    raise MalformedError("a field's number is out of range, and readers differ in what they make of it")
            wire = tag & 7
            if wire == _BYTES:
                size, at = varint(data, at, end)
                stop = at + size
                if stop > end:
                    raise MalformedError("a field is longer than the message that it is in")
                yield tag >> 3, at, stop
                at = stop
            elif wire == _VARINT:
                value, at = varint(data, at, end)
                yield tag >> 3, value, -1
            elif wire in {_FIXED64, _FIXED32}:
                at += 8 if wire == _FIXED64 else 4
                if at > end:
                    raise MalformedError("the last field goes beyond the end")
            else:
                raise MalformedError(f"there is no field of wire type {wire}")

    def messages(self, number: int, at: int, end: int) -> Iterator[tuple[int, int]]:
        """Start and end of every message or text in a field of that number."""
        for found, start, stop in self.fields(at, end):
            if found == number and stop >= 0:
                yield start, stop

    def text(self, start: int, stop: int) -> str:
        """A text field; empty where the field was a number."""
        return bytes(self.data[start:stop]).decode("utf-8", "replace") if stop >= 0 else ""

    def last_text(self, number: int, at: int, end: int) -> str:
        """The text in a field of that number. Where it stands twice, the last one counts, as for every reader."""
        found = ""
        for start, stop in self.messages(number, at, end):
            found = self.text(start, stop)
        return found

    def shape(self, at: int, end: int) -> list[int]:
        """The sizes in a `TensorShapeProto`; an open one counts as none, and a size of none is not written."""
        sizes = []
        for dimension in self.messages(2, at, end):
            given = [signed(value) for number, value, stop in self.fields(*dimension) if number == 1 and stop < 0]
            sizes.append(max(0, given[-1]) if given else 0)
        return sizes

    def numbers(self, start: int, stop: int) -> list[int]:
        """One occurrence of a repeated int64 field: a number by itself, or many that are packed."""
        if stop < 0:
            return [signed(start)]
        found = []
        while start < stop:
            self.budget.steps -= 1
            if self.budget.steps < 0:
                raise self.budget.exhausted()
            value, start = varint(self.data, start, stop)
            found.append(signed(value))
        return found


def varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    if at >= end:
        raise MalformedError("it ends in the middle of a number")
    value = data[at]
    if value < _CONTINUED:
        return value, at + 1
    value &= 127
    for shift in range(1, _LONGEST):
        at += 1
        if at >= end:
            break
        byte = data[at]
        value |= (byte & 127) << (7 * shift)
        if byte < _CONTINUED:
            return value & _64_BITS, at + 1
    raise MalformedError("a number is longer than ten bytes, or ends too early")


def signed(value: int) -> int:
    """An int64 field's value."""
    return value - (1 << 64) if value >= _SIGN else value
