"""Look into files before anything loads them: a bundle with its manifest, or any file or folder.

Nothing is executed, imported or followed, TensorFlow and Keras are not there, and the weights themselves are never read:
only the structure around them. Whatever the bytes are, the answer is a list of findings.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from tasks.errors import NotFoundError, RoundtripError
from tasks.safety.files import TEXT, Budget, Context, File, opened
from tasks.safety.findings import Finding, Inspection, MalformedError, dangerous, suspicious
from tasks.safety.kinds import INSPECTORS, UNREAD, by_content, by_name
from tasks.safety.trust import why_not
from tasks.serialization import FORMATS
from tasks.storage.layout import MANIFEST
from tasks.storage.manifest import Manifest
from tasks.storage.transfer import sha256_of

_DEEPEST = 4
_FILE = 10  # records that a file costs, however small
_ENOUGH = 200  # findings, where one of them is dangerous
_MOST = 50_000  # findings, and files inside, of one file
_SEVERITIES = ("dangerous", "suspicious", "note")
# Nobody's own code: a manifest that names them as its definition's module buys no trust for their classes.
_NEVER_OWN = set(sys.stdlib_module_names) | {"keras", "tensorflow", "tf_keras", "numpy", "builtins", "pip", "setuptools"}


def inspect_bundle(folder: Path, manifest: Manifest, named: str | None = None) -> Inspection:
    """Inspect a fetched bundle, whose digests were checked when it was fetched.

    Args:
        folder: With `model/`, `probe.npz`, `manifest.json`.
        manifest: As read from the store. To load a class of the package of its definition imports that package, so such
            classes are the model's own only where this machine trusts the definition.
        named: The definition that the user named in its place.
    """
    started = time.perf_counter()
    paths, findings = _listed(folder)
    findings += _declared(folder, paths, manifest)
    reference = named or manifest.definition.reference
    untrusted = "" if named else why_not(reference)
    context = Context(_own_packages(reference), _sizes(paths), Budget(), untrusted)
    findings += _inspect(_opened({name: path for name, path in paths.items() if name != MANIFEST}), context)
    findings += _manifest(manifest, context)
    return _record(findings, paths, started)


def inspect_draft(folder: Path, manifest: Manifest) -> Inspection:
    """Inspect a bundle that is about to be published, whose files its manifest does not name yet."""
    started = time.perf_counter()
    paths, findings = _listed(folder)
    context = Context(_own_packages(manifest.definition.reference), _sizes(paths), Budget())
    findings += _inspect(_opened(paths), context)
    return _record([*findings, *_manifest(manifest, context)], paths, started)


def inspect_path(path: Path) -> Inspection:
    """Inspect a file or a folder that came from anywhere. A folder with a `manifest.json` of ours is held against it.

    Raises:
        NotFoundError: There is nothing, or an empty folder.
    """
    started = time.perf_counter()
    if path.is_file():
        one = {path.name: path}
        return _record(_inspect(_opened(one), Context()), one, started)
    if not path.is_dir():
        raise NotFoundError(f"There is no file or folder {path}.")
    if (path / MANIFEST).is_file():
        try:
            manifest = _read_manifest(path / MANIFEST)
        except (ValidationError, MalformedError, RoundtripError) as error:
            first = str(error).splitlines()[0]
            found = [dangerous("manifest", MANIFEST, f"not a manifest of a bundle: {first:.200}")]
            return _record(found, {}, started)
        bundle = inspect_bundle(path, manifest)
        lies = _other_bytes(path, manifest)
        return _record([*bundle.findings, *lies], _listed(path)[0], started)
    paths, findings = _listed(path)
    if not paths and not findings:
        raise NotFoundError(f"There is no file in {path}.")
    findings += _inspect(_opened(paths), Context(sizes=_sizes(paths)))
    return _record(findings, paths, started)


# Folders


def _listed(folder: Path) -> tuple[dict[str, Path], list[Finding]]:
    """Every plain file below a folder by its path in it, and what is no plain file; links are not followed."""
    paths: dict[str, Path] = {}
    findings: list[Finding] = []
    for parent, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = Path(parent) / name
            place = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                findings.append(dangerous("link", place, "a symbolic link"))
            elif stat.S_ISREG(mode):
                paths[place] = path
            elif not stat.S_ISDIR(mode):
                findings.append(dangerous("special file", place, "neither a file nor a folder"))
    return dict(sorted(paths.items())), findings


def _sizes(paths: dict[str, Path]) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in paths.items()}


def _declared(folder: Path, paths: dict[str, Path], manifest: Manifest) -> Iterator[Finding]:
    """What the manifest says of the files, but for their digests."""
    sizes = {f.path: f.size for f in manifest.files}
    for name, path in paths.items():
        if name == MANIFEST:
            continue
        if name not in sizes:
            yield dangerous("undeclared", name, "a file that the manifest does not name")
        elif path.stat().st_size != sizes[name]:
            yield dangerous("manifest", name, f"{path.stat().st_size:,} bytes, where the manifest says {sizes[name]:,}")
    for name in sorted(sizes.keys() - paths.keys()):
        if os.path.lexists(folder / name):
            continue  # a link, say, which is a finding of its own
        yield dangerous("missing", name, "declared by the manifest, but not there")
    if manifest.format not in FORMATS:
        yield dangerous("manifest", MANIFEST, f"it names the format {manifest.format!r}, which does not exist")


def _other_bytes(folder: Path, manifest: Manifest) -> list[Finding]:
    entries = [f for f in manifest.files if (folder / f.path).is_file()]
    with ThreadPoolExecutor(max_workers=2) as pool:
        digests = list(pool.map(lambda f: sha256_of(folder / f.path), entries))
    message = "not the bytes that were published: another SHA-256 than in the manifest"
    return [dangerous("manifest", f.path, message) for f, d in zip(entries, digests, strict=True) if d != f.sha256]


def _manifest(manifest: Manifest, context: Context) -> list[Finding]:
    """The configuration that the manifest itself carries, and that Keras is given when the model is compiled."""
    import json

    form = FORMATS.get(manifest.format)
    if manifest.carried.compile is None or (form and not form.trainable):  # what can't be trained on is not compiled
        return []
    config = json.dumps(manifest.carried.compile).encode()
    whole = File(MANIFEST, memoryview(config), manifest.bytes)
    return _inspect([whole.part("compile", config, "keras config")], context)


def _read_manifest(path: Path) -> Manifest:
    if path.stat().st_size > TEXT:
        raise MalformedError("too large for a manifest")
    return Manifest.model_validate_json(path.read_bytes())


def _own_packages(reference: str) -> frozenset[str]:
    module = reference.rpartition(":")[0]
    # A file of the user's is imported under a name made of its own (`tasks.references`).
    top = f"roundtrip_user_{Path(module).stem}" if module.endswith(".py") else module.partition(".")[0]
    return frozenset({top} - _NEVER_OWN)


# Files


def _opened(paths: dict[str, Path]) -> Iterator[Finding | File]:
    # One after the other: each that is open costs a descriptor, and there may be thousands.
    for name, path in paths.items():
        try:
            yield opened(path, name)
        except OSError as error:
            yield dangerous("unreadable", name, f"can't be opened: {error.strerror}")


def _inspect(roots: Iterable[Finding | File], context: Context) -> list[Finding]:
    """Each file, and each file in it."""
    findings: list[Finding] = []
    for root in roots:
        queue = deque([root])
        while queue:
            found = queue.popleft()
            if isinstance(found, Finding):
                findings.append(found)
            else:
                queue.extendleft(reversed(_all_in(found, context)))
            if len(findings) > _ENOUGH and any(f.severity == "dangerous" for f in findings[:_ENOUGH]):
                return findings  # it is refused already
    return findings


def _all_in(file: File, context: Context) -> list[Finding | File]:
    found: list[Finding | File] = []
    try:
        for one in _one(file, context):
            found.append(one)
            if len(found) > _MOST:
                raise MalformedError("there is more to say about it than about any model")
    except Exception as error:  # whatever the bytes are, the answer is a finding
        message = str(error) if isinstance(error, MalformedError) else f"{type(error).__name__}: {error}"
        found.append(dangerous("malformed", file.name, f"can't be read: {message:.300}"))
    return found


def _one(file: File, context: Context) -> Iterator[Finding | File]:
    context.budget.spend(_FILE)
    if file.depth > _DEEPEST:
        raise MalformedError("files in files in files, deeper than any model's")
    if file.short_name in UNREAD:
        yield dangerous("unreadable", file.name, "a form of SavedModel that inspection does not read")
    declared, found = file.kind or by_name(file), by_content(file)
    if declared == "tensors":  # plain numbers may look like anything
        found = None
    if declared is None and found is None:
        yield suspicious("unknown", file.name, "a file of no format that is known here")
    if declared and found and declared != found:
        yield dangerous("mislabelled", file.name, f"its name is that of {declared}, and its content is {found}")
    for kind in dict.fromkeys(k for k in (found, declared) if k) or ["text"]:
        yield from INSPECTORS[kind](file, context)


def _record(findings: Iterable[Finding], paths: dict[str, Path], started: float) -> Inspection:
    unique = dict.fromkeys(findings)
    ordered = sorted(unique, key=lambda f: _SEVERITIES.index(f.severity))
    size = sum(_sizes(paths).values())
    return Inspection(findings=tuple(ordered), files=len(paths), bytes=size, seconds=time.perf_counter() - started)
