"""Signatures: OpenSSF Model Signing, by its own library, over a whole bundle and the manifest that goes with it.

Two files join a signed bundle: `signed.json`, the manifest as it was without these two, and `model.sig`, the signature over
every file but itself and `manifest.json`. So the signature holds model, version, definition and each digest that the
manifest states: one of another version does not fit, and neither does a manifest that was changed afterwards.

Keys are named, never carried, by the environment: `ROUNDTRIP_SIGNING_KEY` and `ROUNDTRIP_VERIFY_KEY` are paths of PEM files
or `secret:NAME`, a Prefect Secret block (to verify: several, separated by commas, one of which must hold, so that keys can
be changed); `ROUNDTRIP_SIGNING_CERTIFICATE` is the signer's certificate with its chain, and
`ROUNDTRIP_VERIFY_CERTIFICATES` the roots that are trusted, in place of one public key.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tasks.errors import InputError, UnsafeError
from tasks.storage.layout import MANIFEST
from tasks.storage.manifest import FileEntry, Manifest
from tasks.storage.transfer.hashing import file_entries, sha256_of

SIGNED, SIGNATURE = "signed.json", "model.sig"
SIGNING_KEY, SIGNING_CERTIFICATE = "ROUNDTRIP_SIGNING_KEY", "ROUNDTRIP_SIGNING_CERTIFICATE"
VERIFY_KEY, VERIFY_CERTIFICATES = "ROUNDTRIP_VERIFY_KEY", "ROUNDTRIP_VERIFY_CERTIFICATES"
POLICY = "ROUNDTRIP_SIGNATURES"
_OURS = {SIGNED, SIGNATURE}
_LARGEST = 64 * 2**20  # bytes of a signature
_SECRET = "secret:"

Signature = Literal["valid", "unsigned", "unchecked", "refused"]
# Gives a secret's text by its name; who has Prefect hands in its blocks.
Secrets = Callable[[str], str]


def no_secrets(name: str) -> str:
    """Where there is no Prefect."""
    raise InputError(f"{_SECRET}{name} is a Prefect Secret block, which only flows can read. Name a file.")


def sign_bundle(folder: Path, manifest: Manifest, secrets: Secrets = no_secrets) -> Manifest:
    """Sign a bundle that is about to be published, where a key is set.

    Args:
        folder: The bundle, whole but for its manifest.
        manifest: Of the version that it will be; its files are listed here.
        secrets: Reads a `secret:NAME`.

    Returns:
        The manifest, with the two files of the signature; as it was where no key is set.

    Raises:
        InputError: The key can't be read, is no key, or does not belong to the certificate.
    """
    for left in _OURS:  # of an attempt that failed
        (folder / left).unlink(missing_ok=True)
    if not os.environ.get(SIGNING_KEY):
        return manifest
    bare = manifest.model_copy(update={"files": file_entries(folder)})
    (folder / SIGNED).write_text(bare.model_dump_json(indent=1))
    with _signer(secrets) as config:
        config.sign(folder, folder / SIGNATURE)
    joined = [FileEntry(path=n, size=(folder / n).stat().st_size, sha256=sha256_of(folder / n)) for n in sorted(_OURS)]
    return manifest.model_copy(update={"files": tuple(sorted([*bare.files, *joined], key=lambda f: f.path))})


def check_signer(secrets: Secrets = no_secrets) -> None:
    """Raise before the training what `sign_bundle` would raise after it: a key that is set and can't sign."""
    if os.environ.get(SIGNING_KEY):
        with _signer(secrets):
            pass


@contextmanager
def _signer(secrets: Secrets) -> Iterator[Any]:
    """The library, configured to sign by the key that is set."""
    library = _library()
    config = library.signing.Config().set_hashing_config(_hashing(library))
    certificate = os.environ.get(SIGNING_CERTIFICATE)
    with _key(SIGNING_KEY, os.environ.get(SIGNING_KEY, ""), secrets) as key:
        try:
            if certificate:
                config.use_certificate_signer(
                    private_key=key, signing_certificate=certificate, certificate_chain=[certificate]
                )
            else:
                config.use_elliptic_key_signer(private_key=key)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{SIGNING_KEY} can't sign: {_first_line(error)} It takes an elliptic curve's private key without a "
                "password, in PEM."
            ) from None
        yield config


def check_signature(folder: Path, manifest: Manifest, secrets: Secrets = no_secrets) -> Signature:
    """Hold a fetched bundle against its signature, as `ROUNDTRIP_SIGNATURES` demands: `required`, `if-present` or `off`.

    Without that variable, a signature is required where a key to verify it is set, and else not looked at.

    Returns:
        `valid`; `unsigned` where there is none and none is required; `unchecked` where nobody said by which key.

    Raises:
        UnsafeError: There is no signature, or it does not hold, or it is another version's.
        InputError: The key can't be read, or the policy is none.
    """
    has_key = bool(os.environ.get(VERIFY_KEY) or os.environ.get(VERIFY_CERTIFICATES))
    policy = os.environ.get(POLICY) or ("required" if has_key else "if-present")
    if policy not in {"required", "if-present", "off"}:
        raise InputError(f"{POLICY}={policy!r} is no policy. There are: required, if-present, off.")
    subject = f"{manifest.model}@{manifest.version}"
    if policy == "required" and not has_key:
        raise InputError(f"{POLICY}=required needs a key: set {VERIFY_KEY} or {VERIFY_CERTIFICATES}.")
    if not any(f.path == SIGNATURE for f in manifest.files):
        if policy == "required":
            raise UnsafeError(f"{subject} is not signed, or its signature was removed; a signature is required here.")
        return "unsigned"
    if policy == "off" or not has_key:
        return "unchecked"
    _verify(folder, subject, secrets)
    _same_manifest(folder, manifest, subject)
    return "valid"


def _verify(folder: Path, subject: str, secrets: Secrets) -> None:
    if (folder / SIGNATURE).stat().st_size > _LARGEST:
        raise UnsafeError(f"The signature of {subject} is larger than any.")
    refused: list[Exception] = []
    for config in _verifiers(secrets):
        try:
            config.verify(folder, folder / SIGNATURE)
        except Exception as error:  # whatever the bytes are
            refused.append(error)
        else:
            return
    # Of several keys, those that did not sign say nothing of the files.
    told = next((each for each in refused if not str(each).startswith("Key mismatch")), refused[-1])
    # The library's list of what differs, as far as it names the first file; the rest are digests.
    why = _first_line(told).partition(": Expected")[0].replace("\\'", "'").replace('["', "").replace("['", "")
    by = f" by any of {len(refused)} keys" if len(refused) > 1 else ""
    raise UnsafeError(f"The signature of {subject} does not hold{by}: {why}") from told


def _verifiers(secrets: Secrets) -> Iterator[Any]:
    """The library, configured to verify by the certificates that are trusted, or by each key in turn."""
    library = _library()

    def config() -> Any:
        return library.verifying.Config().set_hashing_config(_hashing(library))

    variable, certificates = VERIFY_KEY, os.environ.get(VERIFY_CERTIFICATES)
    try:
        if certificates:
            variable = VERIFY_CERTIFICATES
            yield config().use_certificate_verifier(certificate_chain=[certificates])
            return
        for named in (each.strip() for each in os.environ[VERIFY_KEY].split(",")):
            with _key(VERIFY_KEY, named, secrets) as key:
                verifier = config().use_elliptic_key_verifier(public_key=key)
            yield verifier
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{variable} can't verify: {_first_line(error)}") from None


def _same_manifest(folder: Path, manifest: Manifest, subject: str) -> None:
    try:
        signed = Manifest.model_validate_json((folder / SIGNED).read_bytes())
    except (OSError, ValidationError):
        raise UnsafeError(f"The signature of {subject} holds, but {SIGNED} is not there or no manifest.") from None
    if (signed.model, signed.version) != (manifest.model, manifest.version):
        raise UnsafeError(f"The signature of {subject} is that of {signed.model}@{signed.version}: it was copied there.")
    # As JSON: a metric that is no number is not equal to itself.
    before, now = (json.loads(m.model_dump_json()) for m in (signed, _without_signature(manifest)))
    changed = [name for name in Manifest.model_fields if before[name] != now[name]]
    if changed:
        raise UnsafeError(f"The manifest of {subject} is not the one that was signed: {', '.join(changed)} changed.")


def _without_signature(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"files": tuple(f for f in manifest.files if f.path not in _OURS)})


def _hashing(library: Any) -> Any:
    return library.hashing.Config().set_ignored_paths(paths=[SIGNATURE, MANIFEST], ignore_git_paths=False)


def _library() -> Any:
    try:
        import model_signing  # a second, and an extra
    except ImportError:
        raise InputError("Signatures need the package model-signing. Install it with `uv sync --extra signing`.") from None
    return model_signing


@contextmanager
def _key(variable: str, named: str, secrets: Secrets) -> Iterator[Path]:
    """The file of a key that a variable names: the user's, or one for our eyes that is there as long as it is read."""
    if not named.startswith(_SECRET):
        path = Path(named).expanduser()
        if not path.is_file():
            raise InputError(f"{variable}: there is no file {path}.")
        yield path
        return
    descriptor, name = tempfile.mkstemp(prefix="roundtrip-key-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets(named.removeprefix(_SECRET)))
        yield Path(name)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
