"""HDF5 files: where their links lead, what their datasets declare, and the Keras configuration in their attributes."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.safety.files import Context, File, is_bomb
from tasks.safety.findings import Finding, dangerous, suspicious
from tasks.safety.hdf5_file import Hdf5, Node

# Deflate, shuffle, Fletcher-32, szip, n-bit and scale-offset are HDF5's own, LZF is h5py's; any other number makes the
# library look for a shared object to load.
_KNOWN_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
_CONFIGS = ("model_config", "training_config")


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """Every object that can be reached from the root, once."""
    hdf5 = Hdf5(file.data, context.budget)
    if hdf5.end < len(file.data):
        yield suspicious("hidden bytes", file.name, f"{len(file.data) - hdf5.end:,} bytes follow the file's end")
    declared = 0
    stack, seen = [(hdf5.root, "")], {hdf5.root}
    while stack:
        address, place = stack.pop()
        node = hdf5.node(address)
        yield from _object(node, f"{file.name}:{place or '/'}")
        declared += node.declared or 0
        for link in node.links:
            where = f"{place}/{link.name}"
            if link.target is None:
                yield dangerous("link", f"{file.name}:{where}", f"a {link.kind}, which can lead out of the model")
            elif link.target not in seen:  # a group may be its own grandchild
                seen.add(link.target)
                stack.append((link.target, where))
        if not place:
            for name in _CONFIGS:
                text = node.attributes.get(name)
                if name in node.attributes:
                    yield file.part(name, text if text is not None else b"", "keras config")
    if is_bomb(declared, file.stored):
        yield dangerous("bomb", file.name, f"its datasets declare {declared:,} bytes, and {file.stored:,} are stored")


def _object(node: Node, where: str) -> Iterator[Finding]:
    if node.external:
        yield dangerous("link", where, "a dataset whose bytes are in another file")
    if node.virtual:
        yield dangerous("link", where, "a dataset that is put together from other files")
    strange = [f for f in node.filters if f not in _KNOWN_FILTERS]
    if strange:
        yield dangerous("plugin", where, f"to read it, HDF5 loads a program of the host's (filter {strange[0]})")
