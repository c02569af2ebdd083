"""The registry: one line a format. Nothing else in the code knows a format by name."""

from __future__ import annotations

from tasks.errors import InputError
from tasks.serialization.full_h5 import FullH5
from tasks.serialization.protocol import Format
from tasks.serialization.saved_model import SavedModel
from tasks.serialization.weights_h5 import WeightsH5

FORMATS: dict[str, Format] = {f.name: f for f in (SavedModel(), WeightsH5(), FullH5())}


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: There is none.
    """
    try:
        return FORMATS[name]
    except KeyError:
        raise InputError(f"There is no format {name!r}. There are: {', '.join(FORMATS)}.") from None
