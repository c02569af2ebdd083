"""Files without a structure of their own to check: texts, reports, JSON, and what has no place among a model's files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.safety.files import TEXT, Context, File
from tasks.safety.findings import Finding, MalformedError, dangerous, suspicious
from tasks.safety.keras_config import parsed, walk

_PROGRAMS = {
    b"\x7fELF": "a program for Linux",
    b"\xcf\xfa\xed\xfe": "a program for macOS",
    b"\xca\xfe\xba\xbe": "a program for macOS or Java",
    b"#!": "a script",
    b"\x00asm": "a WebAssembly program",
}
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_TAR_AT = 257
_SOURCES = {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".bat", ".ps1", ".exe", ".js", ".jar"}
_PICKLE = re.compile(rb"\x80[\x02-\x05](?:\x95|[\x28-\x7d\x8c-\x95c])")
# Protocol 0 and 1 have no magic: a global, or a mark and what follows it, up to the final dot.
_OLD_PICKLE = re.compile(rb"(?:\(|\]|\})?(?:lp\d+\n|dp\d+\n|q.)?c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n", re.DOTALL)
_CALL = re.compile(rb"\((?:S'|V|I|F|L|t|l|d|c|i)|t(?:p\d+\n)?R|\nR")
_PICKLE_NAMES = {".pkl", ".pickle", ".p", ".joblib", ".dill", ".pt", ".pth"}
_ACTIVE_HTML = re.compile(
    rb"<\s*(?:script|iframe|object|embed|link|base)\b|\bon[a-z]+\s*=\s*[\"']|javascript:"
    rb"|\b(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//",
    re.IGNORECASE,
)


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """A text, or bytes of no known type: that it is no program, no pickle and no archive."""
    del context
    head = bytes(file.data[:64])
    for magic, what in _PROGRAMS.items():
        if head.startswith(magic):
            yield dangerous("program", file.name, f"{what}, which no model needs")
            return
    if head.startswith(b"MZ") and b"\0" in head:  # a text may begin with these letters
        yield dangerous("program", file.name, "a program for Windows, which no model needs")
    elif _PICKLE.match(head) or _is_old_pickle(file.data):
        yield dangerous("pickle", file.name, "a pickle runs code when it is opened, and no format here needs one")
    elif any(file.short_name.endswith(ending) for ending in _PICKLE_NAMES):
        yield dangerous("pickle", file.name, "its name is a pickle's, which runs code when it is opened")
    elif any(file.short_name.endswith(ending) for ending in _SOURCES):
        yield dangerous("program", file.name, "its name is a program's, which no model needs")
    packed = [name for magic, name in _PACKED.items() if head.startswith(magic)]
    if bytes(file.data[_TAR_AT : _TAR_AT + 5]) == b"ustar":
        packed.append("tar")
    if packed:
        yield dangerous("unreadable", file.name, f"packed by {packed[0]}: nobody looks into it, and no model needs it")


def _is_old_pickle(data: memoryview) -> bool:
    """A list of words may begin like one: only a pickle ends with a dot and calls what it names."""
    head = bytes(data[:4096])
    return bytes(data[-1:]) == b"." and bool(_OLD_PICKLE.match(head) and _CALL.search(head))


def inspect_json(file: File, context: Context) -> Iterator[Finding | File]:
    """Any JSON document, as if it were a Keras configuration: elsewhere it names no classes."""
    if file.data:
        yield from walk(parsed(file, context), file, context)


def inspect_html(file: File, context: Context) -> Iterator[Finding | File]:
    """A report: it must show and do nothing."""
    del context
    if len(file.data) > TEXT:
        raise MalformedError("too large for a report")
    match = _ACTIVE_HTML.search(file.data)
    if match:
        yield suspicious("active report", file.name, f"opened in a browser it does more than show: {match.group()[:40]!r}")


def inspect_nothing(file: File, context: Context) -> Iterator[Finding | File]:
    """Plain numbers, whose places an index tells."""
    del file, context
    yield from ()
