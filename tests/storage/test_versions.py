from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.errors import ConflictError, InputError, NotFoundError, UnsafeError
from tasks.folders import cache_folder
from tasks.storage import (
    Manifest,
    Store,
    advance_latest,
    fetch,
    layout,
    list_models,
    list_versions,
    move_alias,
    publish,
    read_manifest,
    resolve,
)
from tasks.storage.transfer import upload
from tests.storage.samples import FILES, Counter, manifest_of, published, put, write


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


@pytest.fixture
def manifest(store: Store, folder: Path) -> Manifest:
    """A published version of `digits`."""
    return published(store, folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# publish


def test_a_version_is_invisible_until_its_manifest_is_there(store: Store, folder: Path) -> None:
    manifest = manifest_of(write(folder))
    seen: list[tuple[int, int]] = []

    def look(_: int) -> None:
        files = store.keys(layout.bundle("digits", manifest.version))
        seen.append((len(files), len(list_models(store))))

    publish(store, folder, manifest, look)
    assert max(files for files, _ in seen) == len(FILES), "the files go up before the commit"
    assert {models for _, models in seen} == {0}
    assert list_versions(store, "digits") == [manifest.version]


def test_a_published_version_is_whole(store: Store, manifest: Manifest) -> None:
    prefix = layout.bundle("digits", manifest.version)
    assert {
        key.removeprefix(prefix): store.get(key) for key in store.keys(prefix) if not key.endswith("manifest.json")
    } == FILES
    assert read_manifest(store, "digits", manifest.version) == manifest


def test_a_version_with_a_metric_that_is_no_number_can_be_read_again(store: Store, folder: Path) -> None:
    bare = manifest_of(write(folder))
    training = bare.training.model_copy(update={"metrics": {"val_r2": math.nan, "val_mape": math.inf}})
    carried = bare.carried.model_copy(update={"curves": {"val_r2": [math.nan, -1.0]}})
    publish(store, folder, bare.model_copy(update={"training": training, "carried": carried}))

    stored = read_manifest(store, "digits", bare.version)

    assert math.isnan(stored.training.metrics["val_r2"]) and stored.training.metrics["val_mape"] == math.inf
    assert math.isnan(stored.carried.curves["val_r2"][0])


def test_a_reference_says_where_and_how_large(store: Store, folder: Path) -> None:
    manifest = manifest_of(write(folder))
    ref = publish(store, folder, manifest)
    assert ref.uri == f"{store.url}/digits/versions/{manifest.version}"
    assert ref.bytes == sum(map(len, FILES.values()))
    assert ref.metrics == {"val_accuracy": 0.5}
    assert str(ref) == f"digits@{manifest.version}"


def test_a_second_publisher_of_the_same_version_is_told(store: Store, folder: Path, manifest: Manifest) -> None:
    rival = manifest_of(folder, version=manifest.version)
    with pytest.raises(ConflictError, match="written by somebody else first"):
        publish(store, folder, rival)
    assert read_manifest(store, "digits", manifest.version) == manifest


def test_a_publisher_that_tries_again_is_no_conflict(store: Store, folder: Path, manifest: Manifest) -> None:
    assert publish(store, folder, manifest).version == manifest.version


def test_files_are_hashed_while_they_are_published(store: Store, folder: Path) -> None:
    whole = manifest_of(write(folder))
    ref = publish(store, folder, whole.model_copy(update={"files": ()}))
    assert ref.bytes == whole.bytes
    assert read_manifest(store, "digits", whole.version) == whole


def test_a_publisher_that_tries_again_sends_only_what_is_missing(store: Store, folder: Path) -> None:
    manifest = manifest_of(write(folder))
    stays = folder / "probe.npz"
    stays.rename(folder / "elsewhere")
    with pytest.raises(InputError, match="Can't read the bundle"):
        publish(store, folder, manifest)
    upload(store, folder, layout.bundle("digits", manifest.version), manifest.files[:2])
    (folder / "elsewhere").rename(stays)
    counter = Counter()
    publish(store, folder, manifest, counter)
    assert counter.total == len(FILES["probe.npz"])


def test_a_publish_that_fails_leaves_nothing_to_see(store: Store, folder: Path) -> None:
    manifest = manifest_of(write(folder))
    (folder / "probe.npz").write_bytes(b"changed after it was hashed")
    with pytest.raises(InputError, match="changed since it was hashed"):
        publish(store, folder, manifest)
    assert list_models(store) == []
    with pytest.raises(NotFoundError, match="There is no version"):
        read_manifest(store, "digits", manifest.version)


def test_a_model_needs_a_plain_name(store: Store, folder: Path) -> None:
    with pytest.raises(InputError, match="can't be a model's"):
        publish(store, folder, manifest_of(write(folder), model="a/b"))
    assert store.keys("") == []


# resolve


def test_a_model_without_an_alias_is_its_latest(store: Store, manifest: Manifest) -> None:
    advance_latest(store, "digits", manifest.version, "verdict")
    assert resolve(store, "digits") == resolve(store, "digits@latest") == ("digits", manifest.version)
    assert resolve(store, f"digits@{manifest.version}") == ("digits", manifest.version)


def test_an_unknown_model_is_not_found(store: Store, manifest: Manifest) -> None:
    with pytest.raises(NotFoundError, match=r"There is no model 'letters' in .*`python -m flows list` shows"):
        resolve(store, "letters")


def test_a_model_that_nobody_verified_has_no_latest_and_the_message_says_how_to_get_one(
    store: Store, manifest: Manifest
) -> None:
    with pytest.raises(NotFoundError, match=rf"`python -m flows return digits@{manifest.version}` verifies"):
        resolve(store, "digits")


@pytest.mark.parametrize("text", ["", "@latest", "a/b", "../x", "a b", "a@b@c", "a@b/c", "a@..", "s3://bucket/a"])
def test_a_malformed_reference_is_an_input_error(store: Store, text: str) -> None:
    with pytest.raises(InputError):
        resolve(store, text)


# read_manifest


def test_a_version_that_is_not_there_is_not_found(store: Store, manifest: Manifest) -> None:
    with pytest.raises(NotFoundError, match="There is no version"):
        read_manifest(store, "digits", layout.new_version())


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"schema_version": 2}', b"null"])
def test_what_is_no_manifest_is_refused(store: Store, raw: bytes) -> None:
    version = layout.new_version()
    put(store, layout.manifest("digits", version), raw)
    with pytest.raises(UnsafeError, match=f"The manifest of digits@{version} is not valid"):
        read_manifest(store, "digits", version)


def test_a_manifest_that_was_copied_to_another_version_is_refused(store: Store, manifest: Manifest) -> None:
    version = layout.new_version()
    put(store, layout.manifest("digits", version), manifest.model_dump_json().encode())
    with pytest.raises(UnsafeError, match="it was copied there"):
        read_manifest(store, "digits", version)


def test_a_manifest_that_was_copied_to_another_model_is_refused(store: Store, manifest: Manifest) -> None:
    put(store, layout.manifest("letters", manifest.version), manifest.model_dump_json().encode())
    with pytest.raises(UnsafeError, match="it was copied there"):
        read_manifest(store, "letters", manifest.version)


@pytest.mark.parametrize("path", ["../../../x", "/etc/passwd", "model\\x", "."])
def test_a_manifest_whose_paths_leave_the_bundle_is_refused(store: Store, manifest: Manifest, path: str) -> None:
    document = json.loads(manifest.model_dump_json())
    document["files"][0]["path"] = path
    version = document["version"] = layout.new_version()
    put(store, layout.manifest("digits", version), json.dumps(document).encode())
    with pytest.raises(UnsafeError, match="not a plain path inside the bundle"):
        read_manifest(store, "digits", version)


def test_a_version_that_is_no_version_reaches_no_folder(store: Store, manifest: Manifest) -> None:
    evil = manifest.model_copy(update={"version": "backup"})
    put(store, layout.manifest("digits", evil.version), evil.model_dump_json().encode())
    with pytest.raises(UnsafeError, match="is no version"):
        read_manifest(store, "digits", evil.version)
    with pytest.raises(UnsafeError, match="is no version"):
        read_manifest(store, "digits", "../../../victim")


# fetch


def test_what_is_fetched_is_what_was_published(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    to = fetch(store, manifest, tmp_path / "here" / "digits")
    assert to == tmp_path / "here" / "digits"
    found = contents(to)
    assert Manifest.model_validate_json(found.pop("manifest.json")) == manifest
    assert found == FILES


def test_an_empty_folder_may_be_filled(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    assert (fetch(store, manifest, tmp_path / "digits") / "probe.npz").read_bytes() == FILES["probe.npz"]


def test_a_second_fetch_moves_no_bytes(store: Store, manifest: Manifest) -> None:
    first, second = Counter(), Counter()
    folder = fetch(store, manifest, moved=first)
    assert fetch(store, manifest, moved=second) == folder
    assert (first.total, second.total) == (manifest.bytes, 0)
    assert folder.is_relative_to(cache_folder())


def _flip(folder: Path) -> None:
    path = folder / "probe.npz"
    path.chmod(0o644)
    path.write_bytes(b"q" + path.read_bytes()[1:])


def _cut(folder: Path) -> None:
    (folder / "probe.npz").chmod(0o644)
    (folder / "probe.npz").write_bytes(b"p")


def _remove(folder: Path) -> None:
    (folder / "probe.npz").unlink()


def _add(folder: Path) -> None:
    (folder / "model" / "added.bin").write_bytes(b"x")


def _folder(folder: Path) -> None:
    (folder / "probe.npz").unlink()
    (folder / "probe.npz" / "below").mkdir(parents=True)


def _link(folder: Path) -> None:
    shutil.copy(folder / "probe.npz", folder.with_suffix(".elsewhere"))
    (folder / "probe.npz").unlink()
    (folder / "probe.npz").symlink_to(folder.with_suffix(".elsewhere"))


@pytest.mark.parametrize(("damage", "moved"), [(_flip, 300), (_cut, 300), (_remove, 0), (_add, 0), (_link, 0), (_folder, 0)])
def test_a_damaged_cache_is_healed(store: Store, manifest: Manifest, damage: Callable[[Path], None], moved: int) -> None:
    folder = fetch(store, manifest)
    damage(folder)
    counter = Counter()
    assert fetch(store, manifest, moved=counter) == folder
    found = contents(folder)
    del found["manifest.json"]
    assert found == FILES
    assert not any(p.is_symlink() for p in folder.rglob("*"))
    assert counter.total == moved, "what was damaged is fetched again, and nothing else"


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_is_checked(store: Store, manifest: Manifest, tmp_path: Path, name: str) -> None:
    put(store, layout.bundle("digits", manifest.version) + name, FILES[name][:-1] + b"X")
    with pytest.raises(UnsafeError, match=f"{name} is not what was published"):
        fetch(store, manifest, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_file_that_was_cut_short_is_refused_as_tampered_with(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    put(store, layout.bundle("digits", manifest.version) + "probe.npz", b"p" * 100)
    with pytest.raises(UnsafeError, match=r"probe\.npz"):
        fetch(store, manifest, tmp_path / "to")


def test_a_file_that_was_emptied_is_refused_as_tampered_with(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    put(store, layout.bundle("digits", manifest.version) + "probe.npz", b"")
    with pytest.raises(UnsafeError, match=r"probe\.npz"):
        fetch(store, manifest, tmp_path / "to")


def test_a_file_that_was_deleted_is_refused_as_tampered_with(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    store.delete(layout.bundle("digits", manifest.version) + "probe.npz")
    with pytest.raises(UnsafeError, match=r"probe\.npz is missing"):
        fetch(store, manifest, tmp_path / "to")


@pytest.mark.parametrize("to_cache", [True, False])
def test_a_refused_version_leaves_nothing_on_the_disk(
    store: Store, manifest: Manifest, tmp_path: Path, to_cache: bool
) -> None:
    put(store, layout.bundle("digits", manifest.version) + "probe.npz", b"X" * 300)
    with pytest.raises(UnsafeError):
        fetch(store, manifest, None if to_cache else tmp_path / "out" / "digits")
    places = [cache_folder(), tmp_path / "out"]
    assert [p for place in places for p in place.rglob("*") if p.is_file() and p.suffix not in {".lock", ".fill"}] == []


def test_the_folder_appears_only_when_it_is_whole(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    to = tmp_path / "out" / "digits"
    seen: list[tuple[bool, list[int]]] = []
    fetch(store, manifest, to, lambda _: seen.append((to.exists(), [p.stat().st_ino for p in to.parent.glob("*/bundle")])))
    assert seen and not any(there for there, _ in seen)
    assert [p.name for p in to.parent.iterdir()] == ["digits"]
    # The same folder under its last name: one rename, not a copy that appears file by file.
    assert seen[0][1] == [to.stat().st_ino]


def test_an_interrupted_fetch_leaves_nothing(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    to = tmp_path / "out" / "digits"
    with pytest.raises(KeyboardInterrupt):
        fetch(store, manifest, to, interrupt)
    assert list(to.parent.iterdir()) == []


def test_a_folder_with_files_in_it_is_left_alone(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    to = tmp_path / "full"
    to.mkdir()
    (to / "mine").write_text("keep me")
    with pytest.raises(InputError, match=r"is not an empty folder\. Name another one for --to"):
        fetch(store, manifest, to)
    assert contents(to) == {"mine": b"keep me"}


def test_a_file_in_the_place_of_the_folder_is_left_alone(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep me")
    with pytest.raises(InputError, match="is not an empty folder"):
        fetch(store, manifest, tmp_path / "file")
    with pytest.raises(InputError, match="Can't write to"):
        fetch(store, manifest, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "keep me"


def test_a_place_that_can_not_be_written_is_an_input_error(store: Store, manifest: Manifest) -> None:
    with pytest.raises(InputError, match="Can't write to /proc/roundtrip"):
        fetch(store, manifest, Path("/proc/roundtrip"))


def test_fetching_the_same_version_at_once_gives_one_whole_copy(store: Store, manifest: Manifest) -> None:
    counter = Counter()
    with ThreadPoolExecutor(max_workers=4) as pool:
        folders = set(pool.map(lambda _: fetch(store, manifest, moved=counter), range(4)))
    (folder,) = folders
    assert contents(folder).keys() == FILES.keys() | {"manifest.json"}
    assert counter.total == manifest.bytes


# lists


def test_lists_show_committed_versions_only(store: Store, tmp_path: Path) -> None:
    one, two = published(store, tmp_path / "1"), published(store, tmp_path / "2")
    published(store, tmp_path / "3", model="letters")
    put(store, layout.bundle("digits", layout.new_version()) + "model/weights.bin", b"no manifest")
    put(store, layout.bundle("half", layout.new_version()) + "model/weights.bin", b"no manifest")
    put(store, "notes/readme.txt", b"not ours")
    move_alias(store, "digits", "production", one.version, "verdict", "x")
    advance_latest(store, "digits", two.version, "verdict")
    assert list_versions(store, "digits") == sorted([one.version, two.version])
    assert {s.model: (s.versions, s.latest) for s in list_models(store)} == {
        "digits": (2, two.version),
        "letters": (1, None),
    }
    assert list_models(store)[0].aliases == {"latest": two.version, "production": one.version}


def test_a_manifest_inside_a_models_files_is_no_version(store: Store, tmp_path: Path) -> None:
    manifest = published(store, tmp_path / "1", FILES | {"model/manifest.json": b"{}", "model/a/manifest.json": b"{}"})
    assert list_versions(store, "digits") == [manifest.version]


def test_a_folder_that_is_no_version_is_not_listed(store: Store, manifest: Manifest) -> None:
    put(store, "digits/versions/backup/manifest.json", b"{}")
    assert list_versions(store, "digits") == [manifest.version]


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert list_models(store) == []
    with pytest.raises(NotFoundError, match="There is no model 'digits'"):
        list_versions(store, "digits")
