from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError, UnreachableError, UnsafeError
from tasks.settings import StoreConfig
from tasks.storage import Store, embedded, layout, open_store
from tasks.storage.transfer import Progress, Snapshot, download, file_entries, upload, wire
from tasks.storage.transfer.lanes import BYTES_UNDER_WAY, SENDERS, Lanes, Stopped
from tasks.storage.transfer.uploads import part_size
from tests.storage.proxy import Passing, proxy
from tests.storage.samples import Counter, put, write

MIB = 2**20


@pytest.fixture
def passing(
    s3: embedded.EmbeddedStore, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Passing]:
    """A proxy before this test's store, which `between` goes through."""
    with proxy(s3.access.endpoint) as passing:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", passing.endpoint)
        yield passing


@pytest.fixture
def between(passing: Passing) -> Store:
    return open_store()


def there_and_back(store: Store, tmp_path: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    up, down, coming = Counter(), Counter(), Counter()
    entries = upload(store, write(tmp_path / "up", files), "p/", None, up)
    assert entries == file_entries(tmp_path / "up")
    back = tmp_path / "down"
    back.mkdir()
    download(store, "p/", back, entries, down, coming)
    assert up.total == down.total == coming.total == sum(map(len, files.values()))
    return {p.relative_to(back).as_posix(): p.read_bytes() for p in back.rglob("*") if p.is_file()}


# There and back


@pytest.mark.parametrize(
    "files",
    [
        {"empty.bin": b""},
        {"modèle/poids é 重み.bin": b"weights", "e\u0301": b"two letters", "\u00e9": b"one letter"},
        {"one byte": b"1"},
        {f"many/{number:03d}": bytes([number]) * number for number in range(150)},
        {"model/a b+c%20&=?#.bin": b"reserved characters", "model/a b+c &=?#.bin": b"other ones"},
        {".hidden": b"1", "..two": b"2", "trailing.": b"3", "=": b"4", "=3D": b"5"},
    ],
    ids=["empty", "unicode", "one-byte", "many", "reserved", "dots"],
)
def test_files_come_back_as_they_went(store: Store, tmp_path: Path, files: dict[str, bytes]) -> None:
    assert there_and_back(store, tmp_path, files) == files


def test_a_large_file_goes_in_parts_and_comes_back_the_same(between: Store, passing: Passing, tmp_path: Path) -> None:
    body = os.urandom(40 * MIB + 1)
    files = {"large.bin": body, "middle.bin": body[: 20 * MIB], "small.bin": b"s"}
    assert there_and_back(between, tmp_path, files) == files
    assert passing.count("PUT", "partNumber=") == 6 + 3
    assert passing.count("GET", "/p/large.bin") == 6


def test_keys_are_of_letters_that_every_server_keeps(store: Store, tmp_path: Path) -> None:
    names = {"model/saved_model.pb", "model/variables/variables.data-00000-of-00001", "modèle é.bin", "a=b"}
    upload(store, write(tmp_path, dict.fromkeys(names, b"1")), "p/")
    assert set(store.keys("p/")) == {
        "p/model/saved_model.pb",
        "p/model/variables/variables.data-00000-of-00001",
        "p/mod=C3=A8le=20=C3=A9.bin",
        "p/a=3Db",
    }


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert (layout.file("p/", one) == layout.file("p/", other)) == (one == other)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "manifest.json", os.fsdecode(b"\xff")])
def test_a_name_that_no_manifest_can_hold_is_refused_before_anything_is_sent(
    store: Store, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match="can't be stored"):
        upload(store, write(tmp_path, {"a": b"1", name: b"1"}), "p/")
    assert store.keys("p/") == []


def test_a_name_that_is_too_long_for_a_key_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is too long"):
        upload(store, write(tmp_path, {"/".join(["é" * 100] * 2): b"1"}), "p/")


def test_entries_are_sorted_and_hashed(tmp_path: Path) -> None:
    entries = file_entries(write(tmp_path, {"b": b"", "a/z": b"abc"}))
    assert [(e.path, e.size, e.sha256[:8]) for e in entries] == [("a/z", 3, "ba7816bf"), ("b", 0, "e3b0c442")]


def test_parts_grow_with_the_file_and_stop_at_what_memory_allows() -> None:
    assert part_size(40 * MIB) == 8 * MIB
    assert -(-(4 * 10**11) // part_size(4 * 10**11)) <= 10_000
    with pytest.raises(InputError, match="Save the model in shards"):
        part_size(BYTES_UNDER_WAY * 10_000 + 1)


# Damage


@pytest.mark.parametrize("size", [5, 17 * MIB], ids=["small", "large"])
def test_a_file_that_changed_since_it_was_hashed_is_not_stored(store: Store, tmp_path: Path, size: int) -> None:
    entries = file_entries(write(tmp_path, {"a": bytes(size)}))
    (tmp_path / "a").write_bytes(b"1" + bytes(size - 1))
    with pytest.raises(InputError, match="changed since it was hashed"):
        upload(store, tmp_path, "p/", entries)
    assert store.keys("p/") == []
    assert not unfinished(store)


def unfinished(store: Store) -> list[str]:
    found = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=f"{store.prefix}p/").get("Uploads", [])
    return [upload["UploadId"] for upload in found]


@pytest.mark.parametrize(("size", "target"), [(1000, "/p/a"), (17 * MIB, "partNumber=2")], ids=["small", "large"])
def test_bytes_that_are_damaged_on_the_way_up_are_refused(
    between: Store, passing: Passing, tmp_path: Path, size: int, target: str
) -> None:
    passing.up = lambda method, path, body: b"X" + body[1:] if method == "PUT" and target in path else body
    with pytest.raises(UnreachableError, match="p/a"):
        upload(between, write(tmp_path, {"a": bytes(size)}), "p/")
    assert between.keys("p/") == []


@pytest.mark.parametrize("size", [1000, 20 * MIB], ids=["small", "large"])
def test_bytes_that_are_damaged_on_the_way_down_are_fetched_again(
    between: Store, passing: Passing, tmp_path: Path, size: int
) -> None:
    body = os.urandom(size)
    entries = upload(between, write(tmp_path / "up", {"a": body, "b": b"whole"}), "p/")
    once = threading.Lock()

    def damage(method: str, target: str, answer: bytes) -> bytes:
        hit = method == "GET" and target.endswith("/p/a") and once.acquire(blocking=False)
        return b"X" + answer[1:] if hit else answer

    passing.down = damage
    (tmp_path / "down").mkdir()
    download(between, "p/", tmp_path / "down", entries)
    assert (tmp_path / "down" / "a").read_bytes() == body
    assert passing.count("GET", "/p/b") == 1


@pytest.mark.parametrize("size", [1000, 17 * MIB], ids=["small", "large"])
def test_damage_in_the_store_is_found_to_the_last_byte(store: Store, tmp_path: Path, size: int) -> None:
    body = os.urandom(size)
    entries = file_entries(write(tmp_path / "up", {"a": body}))
    put(store, "p/a", body[:-1] + bytes([body[-1] ^ 1]))
    (tmp_path / "down").mkdir()
    with pytest.raises(UnsafeError, match="is not what was published"):
        download(store, "p/", tmp_path / "down", entries)


@pytest.mark.parametrize("left", [0, 100, 9 * MIB])
def test_a_file_that_was_cut_short_in_the_store_is_refused(store: Store, tmp_path: Path, left: int) -> None:
    entries = file_entries(write(tmp_path / "up", {"a": bytes(20 * MIB)}))
    put(store, "p/a", bytes(left))
    (tmp_path / "down").mkdir()
    with pytest.raises(UnsafeError, match=r"cut short|shorter"):
        download(store, "p/", tmp_path / "down", entries)


# Another attempt


def refuse(passing: Passing, method: str, target: str, after: int) -> None:
    """Refuse what matches, after so many of it."""
    matches = 0
    lock = threading.Lock()

    def up(m: str, path: str, body: bytes) -> bytes | None:
        nonlocal matches
        if m == method and target in path:
            with lock:
                matches += 1
                if matches > after:
                    return None
        return body

    passing.up = up


def test_another_attempt_sends_only_the_files_that_are_missing(between: Store, passing: Passing, tmp_path: Path) -> None:
    files = {f"f{number:03d}": os.urandom(1000) for number in range(200)}
    refuse(passing, "PUT", "/p/", after=25)
    with pytest.raises(UnreachableError):
        upload(between, write(tmp_path, files), "p/")
    there = len(between.keys("p/"))
    assert 0 < there <= 25
    passing.up = lambda method, path, body: body
    passing.seen.clear()
    sent, expected = Counter(), Counter()
    assert upload(between, tmp_path, "p/", None, sent, expected) == file_entries(tmp_path)
    assert sent.total == expected.total == (200 - there) * 1000
    assert passing.count("PUT") == 200 - there


def test_the_first_failure_ends_all_runs_of_small_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = itertools.count()

    def put(*_: object) -> None:
        if next(sent) == 0:
            raise UnreachableError("gone")
        time.sleep(0.1)  # they are under way when the first one fails

    monkeypatch.setattr(wire, "put", put)
    with pytest.raises(UnreachableError, match="gone"):
        upload(store, write(tmp_path, {f"{number:03d}": b"1" for number in range(512)}), "p/")
    assert next(sent) <= 2 * SENDERS  # one each, not eight


def test_another_attempt_sends_only_the_parts_that_are_missing(between: Store, passing: Passing, tmp_path: Path) -> None:
    body = os.urandom(72 * MIB)
    refuse(passing, "PUT", "partNumber=", after=3)
    with pytest.raises(UnreachableError):
        upload(between, write(tmp_path / "up", {"a": body}), "p/")
    passing.up = lambda method, path, body: body
    passing.seen.clear()
    sent = Counter()
    entries = upload(between, tmp_path / "up", "p/", None, sent)
    assert passing.count("PUT", "partNumber=") == 9 - 3
    assert sent.total == 6 * 8 * MIB
    assert not unfinished(between)
    (tmp_path / "down").mkdir()
    download(between, "p/", tmp_path / "down", entries)
    assert (tmp_path / "down" / "a").read_bytes() == body


def test_another_attempt_sends_a_part_that_is_not_the_same_any_more(
    between: Store, passing: Passing, tmp_path: Path
) -> None:
    body = os.urandom(40 * MIB)
    refuse(passing, "POST", "uploadId=", after=0)
    with pytest.raises(UnreachableError):
        upload(between, write(tmp_path / "up", {"a": body}), "p/")
    passing.up = lambda method, path, body: body
    passing.seen.clear()
    changed = body[: 20 * MIB] + b"changed" + body[20 * MIB + 7 :]
    entries = upload(between, write(tmp_path / "up", {"a": changed}), "p/")
    assert [path for method, path in passing.seen if "partNumber=3" in path and method == "PUT"]
    assert passing.count("PUT", "partNumber=") == 1
    (tmp_path / "down").mkdir()
    download(between, "p/", tmp_path / "down", entries)
    assert (tmp_path / "down" / "a").read_bytes() == changed


def test_files_that_are_there_are_not_sent_again(store: Store, tmp_path: Path) -> None:
    write(tmp_path, {"large": os.urandom(17 * MIB), "small": b"s", "empty": b""})
    entries = upload(store, tmp_path, "p/")
    again = Counter()
    assert upload(store, tmp_path, "p/", entries, again) == entries
    assert again.total == 0


@pytest.mark.parametrize("damage", [None, 0], ids=["kept", "kept-part-was-damaged"])
def test_another_attempt_asks_only_for_the_parts_that_are_missing(
    between: Store, passing: Passing, tmp_path: Path, damage: int | None
) -> None:
    body = os.urandom(60 * MIB)
    entries = upload(between, write(tmp_path / "up", {"a": body, "b": b"small"}), "p/")
    (tmp_path / "down").mkdir()
    journal = tmp_path / "journal"
    refuse(passing, "GET", "/p/", after=4)
    with pytest.raises(UnreachableError):
        download(between, "p/", tmp_path / "down", entries, journal=journal)
    kept = len(journal.read_text().splitlines())
    assert 0 < kept <= 4
    if damage is not None:
        at = int(journal.read_text().split()[1])
        with (tmp_path / "down" / "a").open("r+b") as file:
            file.seek(at)
            file.write(b"X")
    passing.up = lambda method, path, body: body
    passing.seen.clear()
    download(between, "p/", tmp_path / "down", entries, journal=journal)
    assert (tmp_path / "down" / "a").read_bytes() == body
    assert (tmp_path / "down" / "b").read_bytes() == b"small"
    assert passing.count("GET", "/p/") == 9 - kept + (0 if damage is None else 8)


def test_a_journal_that_was_cut_off_costs_only_its_last_line(store: Store, tmp_path: Path) -> None:
    entries = upload(store, write(tmp_path / "up", {"a": os.urandom(20 * MIB)}), "p/")
    (tmp_path / "down").mkdir()
    journal = tmp_path / "journal"
    download(store, "p/", tmp_path / "down", entries, journal=journal)
    journal.write_text(journal.read_text()[:-2] + "\0\0 x\n")
    counter = Counter()
    download(store, "p/", tmp_path / "down", entries, counter, journal=journal)
    assert 0 < counter.total <= 8 * MIB
    assert (tmp_path / "down" / "a").read_bytes() == (tmp_path / "up" / "a").read_bytes()


# Lanes


def test_no_more_bytes_are_under_way_than_allowed_and_a_larger_one_goes_alone() -> None:
    held: list[int] = []
    now = 0
    lock = threading.Lock()

    def work(count: int) -> None:
        nonlocal now
        with lock:
            now += count
            held.append(now)
        threading.Event().wait(0.005)
        with lock:
            now -= count

    with Lanes() as lanes:
        for count in [BYTES_UNDER_WAY // 3] * 10 + [BYTES_UNDER_WAY * 2] + [BYTES_UNDER_WAY // 5] * 10:
            lanes.reserve(count)
            lanes.start(count, lambda count=count: work(count))
    assert max(n for n in held if n != BYTES_UNDER_WAY * 2) <= BYTES_UNDER_WAY
    assert len(held) == 21


def test_the_first_failure_stops_all_and_is_the_one_that_is_told() -> None:
    started = []

    def work(number: int) -> None:
        started.append(number)
        raise ValueError(number)

    def feed(lanes: Lanes) -> None:
        for number in range(1000):
            lanes.reserve(BYTES_UNDER_WAY)
            lanes.start(BYTES_UNDER_WAY, lambda number=number: work(number))

    with pytest.raises(ValueError, match="0"), Lanes() as lanes:
        with pytest.raises(Stopped):
            feed(lanes)
        raise Stopped
    assert started == [0]


# Options and errors


def test_options_of_the_store_go_with_files_too(s3_environment: dict[str, str], passing: Passing, tmp_path: Path) -> None:
    store = open_store(StoreConfig(tags="team=vision&cost=42", storage_class="STANDARD_IA"))
    upload(store, write(tmp_path, {"small": b"s"}), "p/")
    tags = store.client.get_object_tagging(Bucket=store.bucket, Key=f"{store.prefix}p/small")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "vision", "cost": "42"}
    head = store.client.head_object(Bucket=store.bucket, Key=f"{store.prefix}p/small")
    assert head.get("StorageClass") == "STANDARD_IA"


def test_a_refusal_is_told_as_for_every_other_request(store: Store, tmp_path: Path) -> None:
    entries = file_entries(write(tmp_path / "up", {"a": b"1"}))
    missing = Store(store.client, "no-such-bucket", "", store.endpoint)
    with pytest.raises(UnsafeError, match="missing"):
        download(store, "p/", tmp_path, entries)
    with pytest.raises(Exception, match="There is no bucket 'no-such-bucket'"):
        upload(missing, tmp_path / "up", "p/", entries)


def test_a_lost_upload_in_parts_does_not_stop_a_new_one(store: Store, tmp_path: Path) -> None:
    key = f"{store.prefix}p/a"
    for _ in range(2):
        store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
    upload(store, write(tmp_path, {"a": os.urandom(17 * MIB)}), "p/")
    assert store.keys("p/") == ["p/a"]
    with pytest.raises(ClientError):
        store.client.list_parts(Bucket=store.bucket, Key=key, UploadId="gone")


# Memory


_MEASURE = """
import sys
from pathlib import Path
from tasks.storage import open_store
from tasks.storage.transfer import upload, download
import obstore
def peak():  # kB; ru_maxrss would count pytest's, from before the exec
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
store = open_store()
idle = peak()
entries = upload(store, Path(sys.argv[1]), "m/")
to = Path(sys.argv[2]); to.mkdir()
download(store, "m/", to, entries)
print((peak() - idle) // 1024)
"""


@pytest.mark.e2e
def test_memory_stays_bounded_whatever_is_moved(s3_environment: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "up"
    source.mkdir()
    for number, size in enumerate([150, 150, *[32] * 6]):  # MiB
        with (source / str(number)).open("wb") as file:
            file.truncate(size * MIB)
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(source), str(tmp_path / "down")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 300


# Progress


def test_progress_tells_bytes_rate_and_time_left() -> None:
    now = [0.0]
    shown: list[Snapshot] = []
    progress = Progress("publishing", shown.append, every=1.0, clock=lambda: now[0])
    progress.expect(1000)
    for second in range(1, 5):
        now[0] = second / 2
        progress.moved(100)
    assert [(s.done, s.total, s.rate, s.left) for s in shown] == [(200, 1000, 200.0, 4.0), (400, 1000, 200.0, 3.0)]
    assert str(Snapshot("fetching", 2 * 10**9, 3 * 10**9, 5e8, 2.0)) == "fetching 2,000 of 3,000 MB, 500 MB/s, 2 s left"
    progress.expect(-500)
    now[0] = 3.0
    progress.moved(100)
    assert (shown[-1].total, shown[-1].left) == (500, 0.0)


def test_what_is_over_at_once_shows_no_progress() -> None:
    shown: list[Snapshot] = []
    progress = Progress("publishing", shown.append, every=1.0, clock=lambda: 0.0)
    progress.expect(10)
    progress.moved(10)
    assert shown == []
