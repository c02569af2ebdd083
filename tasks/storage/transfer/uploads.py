"""Files to the store: each byte read once, hashed as it goes, and held at the other end against what was sent.

A file of up to 8 MiB goes in one request, with its SHA-256. A larger one goes in parts of that size, side by side and
beside other files, while one SHA-256 follows them in their order. What the store holds a part against is a CRC-32 where it
says that it knows them (S3, MinIO, SeaweedFS), for a second SHA-256 would cost as much as sending; else the SHA-256 in the
request's signature (Ceph). What is in the store already, whole files and parts of unfinished uploads, is not sent
again: sizes and ETags (MD5) tell, without a note on this side that could be lost or wrong. A store whose ETags are no MD5
(SSE-KMS) gets everything again.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.errors import DeniedError, InputError, RoundtripError
from tasks.storage import layout
from tasks.storage.manifest import FileEntry
from tasks.storage.store import Store
from tasks.storage.transfer import wire
from tasks.storage.transfer.hashing import bundle_files, md5, md5_of_parts
from tasks.storage.transfer.lanes import BYTES_UNDER_WAY, SENDERS, Lanes, Stopped
from tasks.storage.transfer.progress import Moved, nobody

PART = 8 * 2**20
SINGLE = PART
_MAX_PARTS = 10_000  # S3's limit for one upload
_BATCH_FILES, _BATCH_BYTES = 8, 2**20
_FEEDERS = 3  # large files at once; each is hashed by one thread
_UNSIGNED = "s3v4-unsigned-payload"
_LONGEST_KEY = 1024  # bytes, S3's limit


@dataclass(frozen=True, slots=True)
class _Job:
    """One upload of a bundle: what is where, and who is told."""

    store: Store
    folder: Path
    prefix: str
    there: Mapping[str, tuple[int, str]]
    lanes: Lanes
    moved: Moved
    expect: Moved

    def key(self, path: str) -> str:
        return layout.file(self.prefix, path)


def upload(
    store: Store,
    folder: Path,
    prefix: str,
    files: Sequence[FileEntry] | None = None,
    moved: Moved = nobody,
    expect: Moved = nobody,
) -> tuple[FileEntry, ...]:
    """Put a bundle's files below a prefix that nobody else writes to.

    Guarantee: what the store took is what was hashed; a second call sends only what is missing.

    Args:
        store: Where to.
        folder: The bundle.
        prefix: Ends with a slash.
        files: What each file must be; None: all files of the folder, whatever they are.
        moved: Called with the number of bytes, as they go.
        expect: Called with the number of bytes that are to go, and below zero with those that turn out to be there.

    Returns:
        Path, size and SHA-256 of each file, in the order of their paths.

    Raises:
        UnreachableError: The store failed, after retries. What was sent is invisible, and waits for another attempt.
        InputError: A file changed, or can't be read or stored.
    """
    given = {f.path: f for f in files or ()}
    try:
        names = bundle_files(folder) if files is None else list(given)
        _check_lengths(store, prefix, names)
        sizes = {name: (folder / name).stat().st_size for name in names}
        expect(sum(sizes.values()))
        large = [name for name in names if sizes[name] > SINGLE]
        small = [name for name in names if sizes[name] <= SINGLE]
        with Lanes() as lanes, ThreadPoolExecutor(_FEEDERS, thread_name_prefix="feeder") as feeders:
            job = _Job(store, folder, prefix, _present(store, prefix), lanes, moved, expect)
            fed = [feeders.submit(_feed, job, name, sizes[name], given.get(name)) for name in large]
            put: list[Future[list[FileEntry]]] = []
            for together in _batches(small, sizes):
                held = sum(sizes[name] for name in together)
                lanes.reserve(held)
                put.append(lanes.start(held, partial(_put_small, job, [(name, given.get(name)) for name in together])))
            entries = [entry.result() for entry in fed] + [entry for batch in put for entry in batch.result()]
            return tuple(sorted(entries, key=lambda entry: entry.path))
    except OSError as error:
        raise InputError(f"Can't read the bundle {folder}: {error.strerror or error}.") from error


def _present(store: Store, prefix: str) -> dict[str, tuple[int, str]]:
    """Size and ETag of what an earlier attempt left below the prefix."""
    found = {}
    with store.errors(prefix):
        for page in store.client.get_paginator("list_objects_v2").paginate(
            Bucket=store.bucket, Prefix=store.prefix + prefix
        ):
            for item in page.get("Contents", []):
                found[item["Key"].removeprefix(store.prefix)] = (item["Size"], item["ETag"].strip('"'))
    return found


def _batches(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Small files in runs, in their order: handing each one to a lane by itself costs as much as reading it.

    Runs are as long as fills all lanes evenly: of few files each goes by itself.
    """
    batch: list[str] = []
    rounds = -(-len(names) // (SENDERS * _BATCH_FILES))
    held, most = 0, -(-len(names) // (SENDERS * max(1, rounds)))
    for name in names:
        if len(batch) == most or (batch and held + sizes[name] > _BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(name)
        held += sizes[name]
    if batch:
        yield batch


def _put_small(job: _Job, files: Sequence[tuple[str, FileEntry | None]]) -> list[FileEntry]:
    entries = []
    for path, wanted in files:
        if job.lanes.stopped:
            raise Stopped
        with open(f"{job.folder}/{path}", "rb") as file:  # noqa: PTH123  # half the time of a Path's
            body = file.read()
        entry = FileEntry(path=path, size=len(body), sha256=hashlib.sha256(body).hexdigest())
        entries.append(_demand(job, entry, wanted))
        key = job.key(path)
        found = job.there.get(key)
        if found and found[0] == len(body) and found[1] == md5(body):
            job.expect(-len(body))
            continue
        wire.put(job.store, key, body)
        job.moved(len(body))
    return entries


def _feed(job: _Job, path: str, size: int, wanted: FileEntry | None) -> FileEntry:
    """Read a large file part by part, hand the parts to the lanes, and hash them in their order meanwhile."""
    try:
        part = part_size(size, path)
        with (job.folder / path).open("rb") as file:
            found = job.there.get(job.key(path))
            in_parts = found and found[0] == size and found[1].endswith(f"-{-(-size // part)}")
            if found and in_parts and found[1] == _etag_of(file.fileno(), size, part):
                job.expect(-size)
                return _demand(job, _hashed(file, path, size), wanted)
            return _Parts(job, path, size, part).send(file.fileno(), wanted)
    except CancelledError:
        raise Stopped from None
    except BaseException as error:
        if not isinstance(error, Stopped):
            job.lanes.fail(error)
        raise


class _Parts:
    """One upload in parts: a new one, or one that was left unfinished."""

    def __init__(self, job: _Job, path: str, size: int, part: int) -> None:
        self._job, self._path, self._size, self._part = job, path, size, part
        self._where: Any = {"Bucket": job.store.bucket, "Key": job.store.prefix + job.key(path)}
        with job.store.errors(job.key(path)):
            self._id, self._there = self._unfinished() or (self._new(), {})

    def send(self, descriptor: int, wanted: FileEntry | None) -> FileEntry:
        job, key = self._job, self._job.key(self._path)
        sha = hashlib.sha256()
        sent: list[Future[dict[str, Any]] | dict[str, Any]] = []
        for number in range(1, -(-self._size // self._part) + 1):
            count = min(self._part, self._size - (number - 1) * self._part)
            job.lanes.reserve(count)
            body = _read(descriptor, (number - 1) * self._part, count)
            known = self._there.get(number)
            if known and md5(body) in known:
                job.lanes.release(count)
                job.expect(-count)
                sent.append({"PartNumber": number, "ETag": f'"{md5(body)}"', "ChecksumCRC32": _crc32(body)})
            else:
                sent.append(job.lanes.start(count, partial(self._send_part, number, body)))
            sha.update(body)
        parts = [part.result() if isinstance(part, Future) else part for part in sent]
        entry = FileEntry(path=self._path, size=self._size, sha256=sha.hexdigest())
        try:
            _demand(job, entry, wanted)
        except InputError:
            with suppress(RoundtripError), job.store.errors(key):  # else it is left for gc
                job.store.client.abort_multipart_upload(**self._where, UploadId=self._id)
            raise
        with job.store.errors(key):
            self._complete(parts)
        return entry

    def _send_part(self, number: int, body: bytes) -> dict[str, Any]:
        job, check = self._job, _crc32(body)
        with job.store.errors(job.key(self._path)):
            answer = job.store.client.upload_part(
                **self._where, UploadId=self._id, PartNumber=number, Body=body, ChecksumCRC32=check
            )
        job.moved(len(body))
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": check}

    def _complete(self, parts: list[dict[str, Any]]) -> None:
        from botocore.exceptions import ClientError

        store = self._job.store
        try:
            store.client.complete_multipart_upload(**self._where, UploadId=self._id, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
        except ClientError as error:
            # The answer to botocore's second attempt, where the first one was done and its response lost.
            if error.response["Error"].get("Code") != "NoSuchUpload" or store.size(self._job.key(self._path)) != self._size:
                raise

    def _new(self) -> str:
        answer = self._job.store.client.create_multipart_upload(**self._where, ChecksumAlgorithm="CRC32")
        if answer.get("ChecksumAlgorithm") == "CRC32":
            _let_parts_go_unsigned(self._job.store)
        return answer["UploadId"]

    def _unfinished(self) -> tuple[str, dict[int, set[str]]] | None:
        """An upload of this key that somebody began, and the ETags of its parts."""
        client = self._job.store.client
        key = self._where["Key"]
        try:
            with self._job.store.errors(self._job.key(self._path)):
                begun = client.list_multipart_uploads(Bucket=self._where["Bucket"], Prefix=key).get("Uploads", [])
                ids = [upload["UploadId"] for upload in begun if upload["Key"] == key]
                if not ids:
                    return None
                parts: dict[int, set[str]] = {}
                for page in client.get_paginator("list_parts").paginate(**self._where, UploadId=ids[-1]):
                    for part in page.get("Parts", []):
                        parts.setdefault(part["PartNumber"], set()).add(part["ETag"].strip('"'))
                return ids[-1], parts
        except DeniedError:  # these credentials may write, and not list uploads
            return None


def _let_parts_go_unsigned(store: Store) -> None:
    """Spare parts the SHA-256 in their signature, over plain HTTP too: this store holds them against their CRC-32."""
    from botocore import auth

    class UnsignedPayload(auth.S3SigV4Auth):
        def payload(self, request: Any) -> str:
            return auth.UNSIGNED_PAYLOAD

    def choose(signature_version: Any, **_: Any) -> Any:
        return _UNSIGNED if signature_version == "s3v4" else None

    auth.AUTH_TYPE_MAPS.setdefault(_UNSIGNED, UnsignedPayload)
    store.client.meta.events.register("choose-signer.s3.UploadPart", choose, unique_id=_UNSIGNED)


def _check_lengths(store: Store, prefix: str, names: Sequence[str]) -> None:
    for name in names:
        if len(store.prefix + layout.file(prefix, name)) > _LONGEST_KEY:
            raise InputError(
                f"The file name {name!r} is too long: its key in {store.url} would pass S3's {_LONGEST_KEY} bytes."
            )


def part_size(size: int, path: str = "the file") -> int:
    """Bytes a part for a file of so many bytes: 8 MiB, more where S3's 10,000 parts would not reach.

    Raises:
        InputError: Too large for any.
    """
    part = max(PART, -(-size // _MAX_PARTS))
    if part > BYTES_UNDER_WAY:
        limit = BYTES_UNDER_WAY * _MAX_PARTS
        raise InputError(f"{path} has {size} bytes; one file can have {limit} at most. Save the model in shards.")
    return part


def _demand(job: _Job, entry: FileEntry, wanted: FileEntry | None) -> FileEntry:
    if wanted is not None and entry != wanted:
        raise InputError(
            f"{job.folder / entry.path} changed since it was hashed, so {job.store.uri(job.key(entry.path))} was not "
            "written. Publish again, and leave the bundle alone meanwhile."
        )
    return entry


def _hashed(file: Any, path: str, size: int) -> FileEntry:
    file.seek(0)
    return FileEntry(path=path, size=size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _etag_of(descriptor: int, size: int, part: int) -> str:
    return md5_of_parts([md5(_read(descriptor, at, min(part, size - at))) for at in range(0, size, part)])


def _read(descriptor: int, at: int, count: int) -> bytes:
    body = os.pread(descriptor, count, at)
    while len(body) < count:
        more = os.pread(descriptor, count - len(body), at + len(body))
        if not more:
            raise InputError("A file of the bundle became shorter while it was read. Publish again.")
        body += more
    return body


def _crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
