"""The registry: one line a format. Nothing else in the code knows a format by name."""

from __future__ import annotations

from importlib.util import find_spec

from tasks.errors import InputError
from tasks.serialization.checkpoint import Checkpoint
from tasks.serialization.full_h5 import FullH5
from tasks.serialization.keras_archive import KerasArchive
from tasks.serialization.litert import LiteRT
from tasks.serialization.onnx import Onnx
from tasks.serialization.protocol import Format
from tasks.serialization.saved_model import SavedModel
from tasks.serialization.serving_export import ServingExport
from tasks.serialization.weights_h5 import WeightsH5
from tasks.serialization.weights_sharded import WeightsSharded

_ALL: tuple[Format, ...] = (
    SavedModel(),
    WeightsH5(),
    FullH5(),
    KerasArchive(),
    ServingExport(),
    WeightsSharded(),
    Checkpoint(),
    Onnx(),
    LiteRT(),
)
FORMATS: dict[str, Format] = {f.name: f for f in _ALL}


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: There is none.
    """
    try:
        return FORMATS[name]
    except KeyError:
        raise InputError(f"There is no format {name!r}. There are: {', '.join(FORMATS)}.") from None


def usable_format(name: str) -> Format:
    """The format of that name, on a machine that has what it needs.

    Raises:
        InputError: There is none, or its packages are not installed; the message says how to install them.
    """
    format_ = format_named(name)
    missing = [package for package in format_.packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f"The format {name} needs {', '.join(missing)}, which this environment lacks. Install it with "
            f"`uv sync --extra {name}`, or for one command: `uv run --extra {name} python -m flows …`."
        )
    return format_
