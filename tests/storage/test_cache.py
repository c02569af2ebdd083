from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.errors import InputError, UnreachableError, UnsafeError
from tasks.folders import cache_folder
from tasks.storage import Manifest, Store, cache, embedded, fetch, layout, open_store
from tasks.storage.cache import eviction, seen
from tests.storage.proxy import Passing, proxy
from tests.storage.samples import FILES, Counter, published, put

MIB = 2**20


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    for folder in list(cache._held):
        cache.release(folder)


@pytest.fixture
def passing(
    s3: embedded.EmbeddedStore, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Passing]:
    with proxy(s3.access.endpoint) as passing:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", passing.endpoint)
        yield passing


def versions(store: Store, tmp_path: Path, count: int, size: int = 1000) -> list[Manifest]:
    """So many versions, each of one file of its own and one that all share."""
    return [
        published(store, tmp_path / f"up{n}", {"own": os.urandom(size), "shared": b"s" * size}, f"m{n}")
        for n in range(count)
    ]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def used() -> int:
    return eviction._size(cache_folder())


def in_another_process(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", f"from tasks.storage import *\nimport sys\nstore = open_store()\n{code}", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


FETCH = """
manifest = read_manifest(store, sys.argv[1], sys.argv[2])
moved = []
print(fetch(store, manifest, moved=moved.append), sum(moved))
"""


# What the store names now


def test_a_file_that_was_right_for_another_manifest_is_hashed_against_this_one(store: Store, tmp_path: Path) -> None:
    """Who may write to the store could else have a cache vouch for bytes that are not there any more."""
    (manifest,) = versions(store, tmp_path, 1)
    fetch(store, manifest)
    forged = tuple(f.model_copy(update={"sha256": "0" * 64}) if f.path == "own" else f for f in manifest.files)

    with pytest.raises(UnsafeError, match="is not what was published"):
        fetch(store, manifest.model_copy(update={"files": forged}))


def test_the_manifest_in_the_folder_is_the_one_that_was_read(store: Store, tmp_path: Path) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    path = fetch(store, manifest) / "manifest.json"
    for damage in (path.unlink, lambda: path.write_bytes(b"\xff")):
        damage()
        fetch(store, manifest)
        assert Manifest.model_validate_json(path.read_bytes()) == manifest


# One file, kept once


def test_a_file_that_versions_share_is_moved_once_and_kept_once(store: Store, tmp_path: Path) -> None:
    one, two = versions(store, tmp_path, 2)
    first, second = Counter(), Counter()
    a, b = fetch(store, one, moved=first), fetch(store, two, moved=second)
    assert (first.total, second.total) == (2000, 1000)
    assert (a / "shared").samefile(b / "shared")
    assert 3000 <= used() < 3000 + 20_000  # beside the files: manifests and what was seen


def test_a_file_that_is_twice_in_one_version_comes_back_twice(store: Store, tmp_path: Path) -> None:
    manifest = published(store, tmp_path / "up", {"a": b"same", "b/c": b"same", "e": b"", "f": b""})
    folder = fetch(store, manifest)
    found = bytes_of(folder)
    del found[layout.MANIFEST]
    assert found == {"a": b"same", "b/c": b"same", "e": b"", "f": b""}
    assert fetch(store, manifest, moved=lambda _: pytest.fail("moved again")) == folder


def test_a_folder_of_ones_own_is_filled_from_the_cache_and_independent_of_it(store: Store, tmp_path: Path) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    cached = fetch(store, manifest)
    counter = Counter()
    own = fetch(store, manifest, tmp_path / "own", counter)
    assert counter.total == 0
    (own / "shared").write_bytes(b"mine")
    assert (cached / "shared").read_bytes() == b"s" * 1000


def test_another_process_finds_what_this_one_fetched(store: Store, tmp_path: Path) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    folder = fetch(store, manifest)
    assert in_another_process(FETCH, manifest.model, manifest.version).split() == [str(folder), "0"]


# What is hashed again


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that the cache hashes from now on."""
    names: list[str] = []
    real = cache.sha256_of

    def counting(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(cache, "sha256_of", counting)
    return names


def test_a_file_that_was_not_touched_is_not_hashed_again(store: Store, tmp_path: Path, hashed: list[str]) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    fetch(store, manifest)
    fetch(store, manifest)
    assert hashed == []


_OTHER = b"not as it was"  # one byte would be the same once in 256 times: the files are random


def _written_at_once(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(_OTHER)


def _with_its_date_put_back(path: Path) -> None:
    _written_at_once(path)
    os.utime(path, ns=(1_000_000_000 * 10**9, 1_000_000_000 * 10**9))


def _by_another_file(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(_OTHER + path.read_bytes()[len(_OTHER) :])
    shutil.copystat(path, new)
    new.replace(path)


@pytest.mark.parametrize("change", [_written_at_once, _with_its_date_put_back, _by_another_file])
def test_a_changed_file_of_the_same_size_is_noticed_and_healed(
    store: Store, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    folder = fetch(store, manifest)
    (folder / "own").chmod(0o644)
    before = (folder / "own").read_bytes()
    change(folder / "own")
    assert (folder / "own").read_bytes() != before
    fetch(store, manifest)
    assert (folder / "own").read_bytes() == before


def test_a_shared_file_that_a_reader_changed_is_healed_in_each_version(store: Store, tmp_path: Path) -> None:
    one, two = versions(store, tmp_path, 2)
    a, b = fetch(store, one), fetch(store, two)
    (a / "shared").chmod(0o644)
    (a / "shared").write_bytes(b"X" * 1000)
    assert (b / "shared").read_bytes() == b"X" * 1000, "a hard link: the damage is shared"
    counter = Counter()
    fetch(store, two, moved=counter)
    fetch(store, one, moved=counter)
    assert (a / "shared").read_bytes() == (b / "shared").read_bytes() == b"s" * 1000
    assert counter.total == 1000


def test_a_damaged_file_of_another_version_is_not_taken_over(store: Store, tmp_path: Path) -> None:
    one, two = versions(store, tmp_path, 2)
    shared = fetch(store, one) / "shared"
    shared.chmod(0o644)
    shared.write_bytes(b"X" * 1000)
    assert (fetch(store, two) / "shared").read_bytes() == b"s" * 1000


def test_damage_that_the_kernel_does_not_know_of_is_found_after_a_week(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    folder = fetch(store, manifest)
    real = seen._facts
    facts = {path.name: real(path) for path in folder.iterdir()}
    (folder / "own").chmod(0o644)
    _written_at_once(folder / "own")
    monkeypatch.setattr(seen, "_facts", lambda path: facts[path.name])  # as a rotten sector looks
    fetch(store, manifest)
    assert (folder / "own").read_bytes().startswith(_OTHER)
    now = time.time()
    monkeypatch.setattr(seen.time, "time", lambda: now + 8 * 86_400)
    fetch(store, manifest)
    monkeypatch.undo()
    assert (folder / "own").read_bytes() == (tmp_path / "up0" / "own").read_bytes()


@pytest.mark.parametrize("note", ["", "{", "[]", "null", '{"hashed": "x", "files": {}}', '{"hashed": 1e12, "files": []}'])
def test_a_note_that_can_not_be_read_costs_a_hash_and_no_more(
    store: Store, tmp_path: Path, hashed: list[str], note: str
) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    folder = fetch(store, manifest)
    folder.with_name(f"{manifest.version}.seen").write_text(note)
    fetch(store, manifest, moved=lambda _: pytest.fail("moved again"))
    assert sorted(hashed) == ["own", "shared"]
    fetch(store, manifest)
    assert sorted(hashed) == ["own", "shared"]


# Eviction


def test_the_least_recently_used_version_goes_first(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = versions(store, tmp_path, 3, size=100_000)
    monkeypatch.setenv(eviction.SIZE_VARIABLE, "350kB")
    folders = []
    for age, manifest in ((300, one), (200, two)):
        folders.append(fetch(store, manifest))
        cache.release(folders[-1])
        used_at = time.time() - age
        os.utime(folders[-1].with_name(f"{manifest.version}.lock"), (used_at, used_at))
    cache.release(fetch(store, one))  # used again
    fetch(store, three)
    assert folders[0].exists()
    assert not folders[1].exists()
    assert used() <= 350_000


def test_a_version_that_this_process_uses_is_not_evicted_until_it_is_released(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = versions(store, tmp_path, 3, size=100_000)
    monkeypatch.setenv(eviction.SIZE_VARIABLE, "0")
    first = fetch(store, one)
    second = fetch(store, two)
    assert first.exists() and second.exists()
    cache.release(first)
    fetch(store, three)
    assert not first.exists() and second.exists()
    assert not list(first.parent.iterdir())


def test_a_version_that_another_process_uses_is_not_evicted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = versions(store, tmp_path, 3, size=100_000)
    code = f"{FETCH}\nsys.stdout.flush()\nsys.stdin.read()"
    command = [sys.executable, "-c", f"from tasks.storage import *\nimport sys\nstore = open_store()\n{code}"]
    with subprocess.Popen(
        [*command, one.model, one.version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout and reader.stdin
        folder = Path(reader.stdout.readline().split()[0])
        monkeypatch.setenv(eviction.SIZE_VARIABLE, "0")
        fetch(store, two)
        assert bytes_of(folder)["shared"] == b"s" * 100_000
        reader.kill()
    fetch(store, three)
    assert not folder.exists(), "a lock goes with its process, however it ended"


def test_what_a_killed_fetch_left_is_evicted_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = versions(store, tmp_path, 2)
    place = cache.Place(cache_folder(), one.model, one.version)
    (place.partial / "bundle").mkdir(parents=True)
    (place.partial / "bundle" / "own").write_bytes(bytes(10**6))
    place.lock.touch()
    monkeypatch.setenv(eviction.SIZE_VARIABLE, "100kB")
    fetch(store, two)
    assert not place.partial.exists()


@pytest.mark.parametrize(
    ("text", "size"), [("", 20 * 10**9), ("1000", 1000), ("500MB", 5 * 10**8), ("1.5 GB", 15 * 10**8), ("2t", 2 * 10**12)]
)
def test_the_size_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv(eviction.SIZE_VARIABLE, text)
    assert eviction.size_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "10 XB", "1e9"])
def test_what_is_no_size_is_refused_before_anything_is_fetched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (manifest,) = versions(store, tmp_path, 1)
    monkeypatch.setenv(eviction.SIZE_VARIABLE, text)
    with pytest.raises(InputError, match="is no size"):
        fetch(store, manifest, moved=lambda _: pytest.fail("moved"))


# Several at once


def test_processes_that_fetch_and_evict_at_once_all_get_whole_versions(store: Store, tmp_path: Path) -> None:
    manifests = versions(store, tmp_path, 3, size=50_000)
    code = """
import hashlib, random
from tasks.storage.cache import release
for _ in range(25):
    model, version = random.choice([a.split("@") for a in sys.argv[1:]])
    manifest = read_manifest(store, model, version)
    folder = fetch(store, manifest)
    for entry in manifest.files:
        assert hashlib.sha256((folder / entry.path).read_bytes()).hexdigest() == entry.sha256
    release(folder)
"""
    command = [sys.executable, "-c", f"from tasks.storage import *\nimport sys\nstore = open_store()\n{code}"]
    readers = [
        subprocess.Popen(
            [*command, *(f"{m.model}@{m.version}" for m in manifests)],
            env={**os.environ, eviction.SIZE_VARIABLE: "120kB"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    errors = [reader.communicate()[1] for reader in readers]
    assert [reader.returncode for reader in readers] == [0, 0, 0], errors


# Another attempt


def test_a_fetch_that_the_store_cut_short_goes_on_where_it_ended(
    passing: Passing, tmp_path: Path, s3_environment: dict[str, str]
) -> None:
    between = open_store()
    body = os.urandom(60 * MIB)
    manifest = published(between, tmp_path / "up", {"large": body, "small": b"s"})
    answered = iter(range(100))
    passing.up = lambda method, target, body: (
        None if method == "GET" and "/versions/" in target and next(answered) >= 4 else body
    )
    first, second = Counter(), Counter()
    with pytest.raises(UnreachableError):
        fetch(between, manifest, moved=first)
    passing.up = lambda method, target, body: body
    folder = fetch(between, manifest, moved=second)
    assert first.total > 0 and first.total + second.total == manifest.bytes
    assert (folder / "large").read_bytes() == body
    assert [p.name for p in folder.parent.iterdir() if p.name.endswith(".partial")] == []


def test_a_fetch_to_a_folder_goes_on_too_and_leaves_nothing_beside_it(
    passing: Passing, tmp_path: Path, s3_environment: dict[str, str]
) -> None:
    between = open_store()
    body = os.urandom(40 * MIB)
    manifest = published(between, tmp_path / "up", {"large": body})
    answered = iter(range(100))
    passing.up = lambda method, target, body: (
        None if method == "GET" and "/versions/" in target and next(answered) >= 2 else body
    )
    first, second = Counter(), Counter()
    to = tmp_path / "out" / "digits"
    with pytest.raises(UnreachableError):
        fetch(between, manifest, to, first)
    assert not to.exists()
    passing.up = lambda method, target, body: body
    fetch(between, manifest, to, second)
    assert first.total > 0 and first.total + second.total == manifest.bytes
    assert (to / "large").read_bytes() == body
    assert [p.name for p in to.parent.iterdir()] == ["digits"]


def test_a_refused_version_is_not_held(store: Store, tmp_path: Path) -> None:
    manifest = published(store, tmp_path / "up", FILES)
    put(store, layout.bundle("digits", manifest.version) + "probe.npz", b"X" * 300)
    with pytest.raises(UnsafeError):
        fetch(store, manifest)
    assert cache._held == {}


def test_past_the_cache_every_byte_comes_from_the_store_and_damage_there_is_seen(store: Store, tmp_path: Path) -> None:
    manifest = published(store, tmp_path / "up")
    fetch(store, manifest)
    entry = manifest.files[0]
    put(store, layout.file(layout.bundle(manifest.model, manifest.version), entry.path), b"x" * entry.size)
    before = used()

    assert bytes_of(fetch(store, manifest))[entry.path] != b"x" * entry.size, "the cache does not look"
    for to in (None, tmp_path / "out"):
        with cache.empty_cache(), pytest.raises(UnsafeError, match="is not what was published"):
            fetch(store, manifest, to)

    assert used() == before
    assert bytes_of(fetch(store, manifest))[entry.path] != b"x" * entry.size


def test_what_was_fetched_past_the_cache_is_gone_afterwards_and_held_by_nobody(store: Store, tmp_path: Path) -> None:
    manifest = published(store, tmp_path / "up")

    with cache.empty_cache():
        folder = fetch(store, manifest)
        assert set(FILES) <= set(bytes_of(folder))

    assert not folder.exists()
    assert not cache._held and not cache_folder().exists()
