"""Signatures by real keys, and what each way of cheating is told."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.errors import InputError, UnsafeError
from tasks.safety import check_signature, sign_bundle, signing
from tasks.storage import Manifest
from tasks.storage.layout import new_version
from tests import bundles


@pytest.fixture(autouse=True)
def keys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key pair, and the environment that names it; nothing else is set."""
    folder = tmp_path_factory.mktemp("keys")
    write_pair(folder, "key")
    for name in (signing.POLICY, signing.SIGNING_CERTIFICATE, signing.VERIFY_CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(signing.SIGNING_KEY, str(folder / "key.pem"))
    monkeypatch.setenv(signing.VERIFY_KEY, str(folder / "key.pub"))
    return folder


def write_pair(folder: Path, name: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pem").write_bytes(private)
    (folder / f"{name}.pub").write_bytes(public)
    return key


def published(folder: Path, **changes: object) -> Manifest:
    """A small bundle as it is published: signed where a key is set."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.weights.h5").write_bytes(b"weights")
    (folder / "probe.npz").write_bytes(b"probe")
    bare = bundles.bare_manifest("weights-h5").model_copy(update={"files": bundles.entries(folder), **changes})
    manifest = sign_bundle(folder, bare)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return manifest


def without_signature(folder: Path, manifest: Manifest) -> Manifest:
    for name in ("model.sig", "signed.json"):
        (folder / name).unlink()
    return manifest.model_copy(
        update={"files": tuple(f for f in manifest.files if f.path not in {"model.sig", "signed.json"})}
    )


def test_a_signed_bundle_is_valid(tmp_path: Path) -> None:
    manifest = published(tmp_path / "bundle")
    assert {f.path for f in manifest.files} >= {"model.sig", "signed.json"}
    assert check_signature(tmp_path / "bundle", manifest) == "valid"


def test_a_metric_that_is_no_number_is_still_the_one_that_was_signed(tmp_path: Path) -> None:
    training = bundles.bare_manifest("weights-h5").training.model_copy(update={"metrics": {"val_r2": math.nan}})
    manifest = published(tmp_path / "bundle", training=training)
    stored = Manifest.model_validate_json(manifest.model_dump_json())
    assert check_signature(tmp_path / "bundle", stored) == "valid"


def test_the_projects_own_command_verifies_the_folder(tmp_path: Path, keys: Path) -> None:
    folder = tmp_path / "bundle"
    published(folder)
    command = [
        str(Path(sys.executable).with_name("model_signing")), "verify", "key", str(folder),
        "--signature", str(folder / "model.sig"), "--public_key", str(keys / "key.pub"),
    ]  # fmt: skip
    fine = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (fine.returncode, "Verification succeeded" in fine.stdout) == (0, True), fine.stderr
    (folder / "probe.npz").write_bytes(b"other")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_a_removed_signature_is_refused_where_there_is_a_key(tmp_path: Path) -> None:
    bare = without_signature(tmp_path / "bundle", published(tmp_path / "bundle"))
    with pytest.raises(UnsafeError, match="is not signed, or its signature was removed"):
        check_signature(tmp_path / "bundle", bare)


def test_another_keys_signature_is_refused(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(keys, "mallory")
    monkeypatch.setenv(signing.SIGNING_KEY, str(keys / "mallory.pem"))
    manifest = published(tmp_path / "bundle")
    with pytest.raises(UnsafeError, match="does not hold: Key mismatch"):
        check_signature(tmp_path / "bundle", manifest)


def test_the_signature_of_another_version_is_refused(tmp_path: Path) -> None:
    """All of an old version's files, signature too, under a new version's name."""
    replayed = published(tmp_path / "bundle").model_copy(update={"version": new_version()})
    with pytest.raises(UnsafeError, match=r"is that of model@.*: it was copied there"):
        check_signature(tmp_path / "bundle", replayed)


@pytest.mark.parametrize("name", ["model.sig", "signed.json"])
def test_a_file_of_another_versions_signature_is_refused(tmp_path: Path, name: str) -> None:
    manifest = published(tmp_path / "bundle")
    published(tmp_path / "other")
    (tmp_path / "bundle" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(UnsafeError, match=r"does not hold: Signature mismatch: Hash mismatch for 'signed\.json'$"):
        check_signature(tmp_path / "bundle", manifest)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    manifest = published(tmp_path / "bundle")
    (tmp_path / "bundle" / "model" / "model.weights.h5").write_bytes(b"others!")
    with pytest.raises(UnsafeError, match=r"Hash mismatch for 'model/model\.weights\.h5'$"):
        check_signature(tmp_path / "bundle", manifest)


def test_an_added_file_is_refused(tmp_path: Path) -> None:
    manifest = published(tmp_path / "bundle")
    (tmp_path / "bundle" / ".gitignore").write_bytes(b"")
    with pytest.raises(UnsafeError, match="Extra files"):
        check_signature(tmp_path / "bundle", manifest)


def test_a_manifest_that_was_changed_after_it_was_signed_is_refused(tmp_path: Path) -> None:
    manifest = published(tmp_path / "bundle")
    definition = manifest.definition.model_copy(update={"reference": "os:system"})
    with pytest.raises(UnsafeError, match="is not the one that was signed: definition changed"):
        check_signature(tmp_path / "bundle", manifest.model_copy(update={"definition": definition}))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"dsseEnvelope": {}}'])
def test_what_is_no_signature_is_refused(tmp_path: Path, content: bytes) -> None:
    manifest = published(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.sig").write_bytes(content)
    with pytest.raises(UnsafeError, match="does not hold"):
        check_signature(tmp_path / "bundle", manifest)


def test_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = published(tmp_path / "signed")
    monkeypatch.delenv(signing.SIGNING_KEY)
    bare = published(tmp_path / "bare")
    monkeypatch.setenv(signing.POLICY, "if-present")
    assert check_signature(tmp_path / "bare", bare) == "unsigned"
    assert check_signature(tmp_path / "signed", signed) == "valid"
    monkeypatch.setenv(signing.POLICY, "off")
    assert check_signature(tmp_path / "signed", signed) == "unchecked"
    monkeypatch.setenv(signing.POLICY, "always")
    with pytest.raises(InputError, match="'always' is no policy"):
        check_signature(tmp_path / "signed", signed)
    monkeypatch.setenv(signing.POLICY, "required")
    monkeypatch.delenv(signing.VERIFY_KEY)
    with pytest.raises(InputError, match="needs a key"):
        check_signature(tmp_path / "signed", signed)


def test_without_a_key_a_signature_is_not_called_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = published(tmp_path / "bundle")
    monkeypatch.delenv(signing.VERIFY_KEY)
    assert check_signature(tmp_path / "bundle", manifest) == "unchecked"


def test_a_second_attempt_signs_anew(tmp_path: Path) -> None:
    first = published(tmp_path / "bundle")
    (tmp_path / "bundle" / "manifest.json").unlink()
    second = sign_bundle(tmp_path / "bundle", first.model_copy(update={"version": new_version()}))
    assert [f.path for f in second.files].count("model.sig") == 1
    assert check_signature(tmp_path / "bundle", second) == "valid"


def test_a_certificate_signs_for_whoever_trusts_its_root(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_pair(keys, "root")
    leaf = write_pair(keys, "leaf")
    write_certificate(keys / "root.crt", "root", root, "root", root)
    write_certificate(keys / "leaf.crt", "leaf", leaf, "root", root)
    write_certificate(keys / "other.crt", "other", write_pair(keys, "other"), "other", write_pair(keys, "other"))
    monkeypatch.setenv(signing.SIGNING_KEY, str(keys / "leaf.pem"))
    monkeypatch.setenv(signing.SIGNING_CERTIFICATE, str(keys / "leaf.crt"))
    manifest = published(tmp_path / "bundle")

    monkeypatch.setenv(signing.VERIFY_CERTIFICATES, str(keys / "root.crt"))
    assert check_signature(tmp_path / "bundle", manifest) == "valid"
    monkeypatch.setenv(signing.VERIFY_CERTIFICATES, str(keys / "other.crt"))
    with pytest.raises(UnsafeError, match="does not hold"):
        check_signature(tmp_path / "bundle", manifest)


def write_certificate(
    path: Path, name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> None:
    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    usage = x509.KeyUsage(True, False, False, False, False, name == issuer, name == issuer, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def test_while_keys_change_either_verifies_and_damage_is_named(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = published(tmp_path / "before")
    write_pair(keys, "new")
    write_pair(keys, "stranger")
    monkeypatch.setenv(signing.SIGNING_KEY, str(keys / "new.pem"))
    after = published(tmp_path / "after")
    monkeypatch.setenv(signing.VERIFY_KEY, f"{keys / 'key.pub'},{keys / 'new.pub'}")
    assert check_signature(tmp_path / "before", before) == "valid"
    assert check_signature(tmp_path / "after", after) == "valid"
    (tmp_path / "before" / "probe.npz").write_bytes(b"other")
    with pytest.raises(UnsafeError, match=r"by any of 2 keys: Signature mismatch: Hash mismatch for 'probe\.npz'$"):
        check_signature(tmp_path / "before", before)
    monkeypatch.setenv(signing.VERIFY_KEY, f"{keys / 'stranger.pub'},{keys / 'key.pub'}")
    with pytest.raises(UnsafeError, match="by any of 2 keys: Key mismatch"):
        check_signature(tmp_path / "after", after)


def test_a_key_may_be_a_secret_that_somebody_else_keeps(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"signing": (keys / "key.pem").read_text()}
    monkeypatch.setenv(signing.SIGNING_KEY, "secret:signing")
    with pytest.raises(InputError, match="secret:signing is a Prefect Secret block, which only flows can read"):
        published(tmp_path / "refused")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "probe.npz").write_bytes(b"probe")
    bare = bundles.bare_manifest("weights-h5").model_copy(update={"files": bundles.entries(tmp_path / "bundle")})
    assert check_signature(tmp_path / "bundle", sign_bundle(tmp_path / "bundle", bare, secrets.__getitem__)) == "valid"


@pytest.mark.parametrize("content", ["nothing of the kind", None])
def test_what_is_no_key_is_an_error_that_does_not_show_it(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (keys / "bad.pem").write_text(content)
    monkeypatch.setenv(signing.SIGNING_KEY, str(keys / "bad.pem"))
    with pytest.raises(InputError, match=signing.SIGNING_KEY) as refused:
        published(tmp_path / "bundle")
    assert str(content) not in str(refused.value)
