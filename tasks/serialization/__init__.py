"""How a model becomes files and comes back: one module a format, all behind one protocol.

Fourth room. `write_bundle` saves a trained model with everything that its format would lose (optimizer slots, seed states,
how it was compiled, history) beside it; `restore` brings all of it back. `FORMATS` names the formats; open one module and
you know all.
"""

from tasks.serialization.bundle import Bundle, Carried, needs_definition, restore, write_bundle
from tasks.serialization.digests import TensorDigest, compare, tensor_digests
from tasks.serialization.formats import FORMATS, format_named, usable_format
from tasks.serialization.protocol import PROMISES, Format, Promise

__all__ = [
    "FORMATS",
    "PROMISES",
    "Bundle",
    "Carried",
    "Format",
    "Promise",
    "TensorDigest",
    "compare",
    "format_named",
    "needs_definition",
    "restore",
    "tensor_digests",
    "usable_format",
    "write_bundle",
]
