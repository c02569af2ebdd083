from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import UnreachableError, UnsafeError
from tasks.storage import Store
from tasks.storage.transfer import download, file_entries, upload
from tests.storage.samples import Counter, put, write


def there_and_back(store: Store, tmp_path: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    entries = file_entries(write(tmp_path / "up", files))
    up, down = Counter(), Counter()
    upload(store, tmp_path / "up", "p/", entries, up)
    back = tmp_path / "down"
    back.mkdir()
    download(store, "p/", back, entries, down)
    assert up.total == down.total == sum(map(len, files.values()))
    return {p.relative_to(back).as_posix(): p.read_bytes() for p in back.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "files",
    [
        {"empty.bin": b""},
        {"modèle/poids é 重み.bin": b"weights"},
        {"one byte": b"1"},
        {f"many/{number:03d}": bytes([number]) * number for number in range(50)},
        {"model/a b+c%20&=?#.bin": b"reserved characters"},
    ],
    ids=["empty", "unicode", "one-byte", "many", "reserved"],
)
def test_files_come_back_as_they_went(store: Store, tmp_path: Path, files: dict[str, bytes]) -> None:
    assert there_and_back(store, tmp_path, files) == files


def test_a_large_file_goes_in_parts_and_comes_back_the_same(store: Store, tmp_path: Path) -> None:
    parts: list[int] = []
    store.client.meta.events.register(
        "before-send.s3.UploadPart", lambda request, **_: parts.append(int(request.headers["Content-Length"]))
    )
    body = os.urandom(40 * 2**20 + 1)
    assert there_and_back(store, tmp_path, {"large.bin": body, "small.bin": b"s"}) == {"large.bin": body, "small.bin": b"s"}
    assert sorted(parts) == [8 * 2**20 + 1, 16 * 2**20, 16 * 2**20]


def test_entries_are_sorted_and_hashed(tmp_path: Path) -> None:
    entries = file_entries(write(tmp_path, {"b": b"", "a/z": b"abc"}))
    assert [(e.path, e.size, e.sha256[:8]) for e in entries] == [("a/z", 3, "ba7816bf"), ("b", 0, "e3b0c442")]


def test_a_file_that_changed_since_it_was_hashed_is_not_stored(store: Store, tmp_path: Path) -> None:
    entries = file_entries(write(tmp_path, {"a": b"hashed"}))
    (tmp_path / "a").write_bytes(b"loaded")
    with pytest.raises(UnreachableError, match="p/a"):
        upload(store, tmp_path, "p/", entries)
    assert store.keys("p/") == []


def test_a_large_file_that_changed_since_it_was_hashed_is_not_accepted(store: Store, tmp_path: Path) -> None:
    entries = file_entries(write(tmp_path / "up", {"a": bytes(33 * 2**20)}))
    (tmp_path / "up" / "a").write_bytes(b"1" + bytes(33 * 2**20 - 1))
    upload(store, tmp_path / "up", "p/", entries)
    (tmp_path / "down").mkdir()
    with pytest.raises(UnsafeError, match="is not what was published"):
        download(store, "p/", tmp_path / "down", entries)


@pytest.mark.parametrize(("operation", "size"), [("PutObject", 1000), ("UploadPart", 33 * 2**20)])
def test_bytes_that_are_damaged_on_the_way_up_are_refused(store: Store, tmp_path: Path, operation: str, size: int) -> None:
    def damage(request: Any, **_: Any) -> None:
        body = request.body if isinstance(request.body, bytes) else request.body.read()
        request.body = b"X" + body[1:]

    store.client.meta.events.register(f"before-send.s3.{operation}", damage)
    entries = file_entries(write(tmp_path, {"a": bytes(size)}))
    with pytest.raises(UnreachableError, match="p/a"):
        upload(store, tmp_path, "p/", entries)
    assert store.keys("p/") == []
    uploads = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=f"{store.prefix}p/")
    assert uploads.get("Uploads", []) == []


def test_damage_in_the_last_byte_of_a_large_file_is_found(store: Store, tmp_path: Path) -> None:
    body = os.urandom(33 * 2**20)
    entries = file_entries(write(tmp_path / "up", {"a": body}))
    put(store, "p/a", body[:-1] + bytes([body[-1] ^ 1]))
    (tmp_path / "down").mkdir()
    with pytest.raises(UnsafeError, match="is not what was published"):
        download(store, "p/", tmp_path / "down", entries)
