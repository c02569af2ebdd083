"""Files to and from the store: parallel, in parts, every byte hashed and checked on both ways.

Up: a file's SHA-256 is taken once and sent with it where one request carries the file; a large file goes up in parts, each
with its own SHA-256. A store that knows these checksums (S3, SeaweedFS, MinIO) refuses bytes that were damaged on the way.
Down: parts are read by range into place, then the whole file is held against the manifest.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.errors import InputError, NotFoundError, UnsafeError
from tasks.storage.client import THREADS
from tasks.storage.manifest import FileEntry
from tasks.storage.store import Store

_PART = 16 * 2**20
_SINGLE = 2 * _PART
_MAX_PARTS = 10_000  # S3's limit for one upload

Moved = Callable[[int], None]


def nobody(_: int) -> None:
    """Report moved bytes to nobody."""


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Path, size and SHA-256 of every file of a bundle, in the order of their paths."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    with ThreadPoolExecutor(max_workers=2) as pool:
        digests = pool.map(sha256_of, paths)
        return tuple(
            FileEntry(path=p.relative_to(folder).as_posix(), size=p.stat().st_size, sha256=digest)
            for p, digest in zip(paths, digests, strict=True)
        )


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file; memory stays flat whatever its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def upload(store: Store, folder: Path, prefix: str, files: Sequence[FileEntry], moved: Moved = nobody) -> None:
    """Put a bundle's files below a prefix.

    Raises:
        UnreachableError: The store failed, after retries. What was uploaded is invisible, for there is no manifest.
    """
    small = [f for f in files if f.size <= _SINGLE]
    large = [f for f in files if f.size > _SINGLE]
    with _pool() as pool:
        for _ in pool.map(lambda f: _put_small(store, folder, prefix, f, moved), small):
            pass
        for entry in large:
            _put_large(store, folder, prefix, entry, pool, moved)


def download(store: Store, prefix: str, folder: Path, files: Sequence[FileEntry], moved: Moved = nobody) -> None:
    """Bring a version's files into a folder and hold each against the manifest.

    Raises:
        UnsafeError: A file's bytes are not those that were published, or it is gone.
        UnreachableError: The store failed, after retries.
        InputError: The folder can't be written.
    """
    with _disk_errors(folder), _pool() as pool:
        parts: list[tuple[FileEntry, int, int]] = []
        for entry in files:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                file.truncate(entry.size)
            parts += [(entry, at, min(_PART, entry.size - at)) for at in range(0, entry.size, _PART)]
        for _ in pool.map(lambda p: _get_part(store, prefix, folder, p, moved), parts):
            pass
        wrong = [f for f, sha256 in zip(files, pool.map(lambda f: sha256_of(folder / f.path), files), strict=True)
                 if sha256 != f.sha256]  # fmt: skip
        for entry in wrong:
            # Once more: damaged on the way, or in the store?
            for at in range(0, entry.size, _PART):
                _get_part(store, prefix, folder, (entry, at, min(_PART, entry.size - at)), nobody)
            digest = sha256_of(folder / entry.path)
            if digest != entry.sha256:
                raise UnsafeError(
                    f"{store.uri(prefix + entry.path)} is not what was published: its SHA-256 is {digest[:16]}…, its "
                    f"manifest says {entry.sha256[:16]}…. It was damaged or changed in the store; nothing was loaded."
                )


def _put_small(store: Store, folder: Path, prefix: str, entry: FileEntry, moved: Moved) -> None:
    with store.errors(prefix + entry.path):
        store.client.put_object(
            Bucket=store.bucket,
            Key=store.prefix + prefix + entry.path,
            Body=(folder / entry.path).read_bytes(),
            ChecksumSHA256=_base64(bytes.fromhex(entry.sha256)),
        )
    moved(entry.size)


def _put_large(store: Store, folder: Path, prefix: str, entry: FileEntry, pool: ThreadPoolExecutor, moved: Moved) -> None:
    where: dict[str, Any] = {"Bucket": store.bucket, "Key": store.prefix + prefix + entry.path}
    size = max(_PART, -(-entry.size // _MAX_PARTS))
    # Only as many parts are in memory as threads send them.
    with store.errors(prefix + entry.path), (folder / entry.path).open("rb") as file:
        upload_id = store.client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
        lock = threading.Lock()

        def send(number: int) -> dict[str, Any]:
            with lock:
                file.seek((number - 1) * size)
                body = file.read(size)
            checksum = _base64(hashlib.sha256(body).digest())
            answer = store.client.upload_part(
                **where, UploadId=upload_id, PartNumber=number, Body=body, ChecksumSHA256=checksum
            )
            moved(len(body))
            return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

        try:
            sent = list(pool.map(send, range(1, -(-entry.size // size) + 1)))
            _complete(store, where, upload_id, sent, entry.size)
        except BaseException as error:
            _abort(store, where, upload_id, error)
            raise


def _complete(store: Store, where: dict[str, Any], upload_id: str, parts: list[dict[str, Any]], size: int) -> None:
    from botocore.exceptions import ClientError  # 0.2 s

    try:
        store.client.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    except ClientError as error:
        # The answer to botocore's second attempt, where the first one was done and its response lost.
        if error.response["Error"].get("Code") != "NoSuchUpload":
            raise
        try:
            found = store.client.head_object(**where)["ContentLength"]
        except ClientError:
            raise error from None
        if found != size:
            raise


def _abort(store: Store, where: dict[str, Any], upload_id: str, reason: BaseException) -> None:
    """Free the parts of an upload; where that fails too, the reason for it is what the caller hears of."""
    from botocore.exceptions import BotoCoreError, ClientError  # 0.2 s

    try:
        store.client.abort_multipart_upload(**where, UploadId=upload_id)
    except (BotoCoreError, ClientError) as error:
        reason.add_note(f"The unfinished upload {upload_id} of {where['Key']} was left, for gc: {error}")


def _get_part(store: Store, prefix: str, folder: Path, part: tuple[FileEntry, int, int], moved: Moved) -> None:
    entry, at, size = part
    uri = store.uri(prefix + entry.path)
    try:
        body = store.get_range(prefix + entry.path, at, size)
        if len(body) != size:  # not a connection that broke, which is an error: once more, then the store has no more
            body = store.get_range(prefix + entry.path, at, size)
    except NotFoundError as error:
        raise UnsafeError(f"{uri} is missing or cut short, though its version was published whole.") from error
    if len(body) != size:
        raise UnsafeError(f"{uri} is shorter than what was published. It was damaged or changed in the store.")
    descriptor = os.open(folder / entry.path, os.O_WRONLY)
    try:
        written = 0
        while written < size:
            written += os.pwrite(descriptor, body[written:], at + written)
    finally:
        os.close(descriptor)
    moved(size)


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Transfer threads that stop taking work at the first error."""
    pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="transfer")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"Can't write to {folder}: {error.strerror or error}.") from error


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
