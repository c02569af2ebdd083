"""What Roundtrip needs from an S3 server, one check each: the suite that `python -m flows doctor` and the tests both run.

A check works below a prefix of its own, raises `Lacking` where the guarantee does not hold, and returns what it saw. What is
needed and lacking makes the store unfit; what is merely wanted is a warning, with what it means.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from tasks.errors import ConflictError, DeniedError, NotFoundError, RoundtripError
from tasks.storage import layout
from tasks.storage.store import Store

Status = Literal["ok", "warning", "problem"]

_WRITERS = 20
_PART = 5 * 2**20  # the smallest that S3 takes for any part but the last
_GOOD_SERVERS = "Use a server that keeps it: Amazon S3, Ceph RGW, MinIO, SeaweedFS, R2."


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found, for people and for `--json`."""

    name: str
    status: Status
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One thing that a store does or does not.

    Attributes:
        name: In a few words.
        needed: Whether models are at risk without it; else it is reported.
        thorough: Whether it moves more than a user wants to wait for each time.
        advice: What to do where it is lacking.
        check: Returns what it saw, in a few words. Raises `Lacking` where it saw the opposite.
    """

    name: str
    needed: bool
    thorough: bool
    advice: str
    check: Callable[[Store], str]


class Lacking(Exception):
    """The store answered, and not as it should."""


GUARANTEES: list[Guarantee] = []


def check_store(store: Store) -> None:
    """Find out, before anything costs time, whether the store answers, lets us write, and keeps put-if-absent.

    Costs three requests, plus one that removes the probe.

    Raises:
        UnreachableError: It doesn't, with the reason.
        NotFoundError: There is no such bucket.
    """
    probe = _below(store, layout.scratch(layout.new_version()))
    try:
        put_if_absent(probe)
    except Lacking as lack:
        raise DeniedError(
            f"The store at {store.endpoint} ignores `If-None-Match: *`: {lack}. Versions could be lost on it. {_GOOD_SERVERS}"
        ) from None
    finally:
        probe.delete("key")


def examine(store: Store, *, thorough: bool) -> list[Check]:
    """Run the suite against a store, its checks beside one another; everything that it wrote is removed."""
    area = layout.scratch(layout.new_version())
    chosen = [g for g in GUARANTEES if thorough or not g.thorough]
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda pair: run(pair[1], _below(store, f"{area}{pair[0]}/")), enumerate(chosen)))


def run(guarantee: Guarantee, scratch: Store) -> Check:
    """Run one check below a prefix that nobody else uses, and leave nothing there."""
    try:
        with scratch.errors(guarantee.name):
            return Check(guarantee.name, "ok", guarantee.check(scratch))
    except Lacking as lack:
        return Check(guarantee.name, "problem" if guarantee.needed else "warning", str(lack), guarantee.advice)
    except RoundtripError as error:
        return Check(guarantee.name, "problem" if guarantee.needed else "warning", str(error), guarantee.advice)
    finally:
        _clear(scratch)


def _guarantee(
    name: str, *, needed: bool = True, thorough: bool = False, advice: str = _GOOD_SERVERS
) -> Callable[[Callable[[Store], str]], Callable[[Store], str]]:
    def add(check: Callable[[Store], str]) -> Callable[[Store], str]:
        GUARANTEES.append(Guarantee(name, needed, thorough, advice, check))
        return check

    return add


# Writing


@_guarantee("put if absent")
def put_if_absent(store: Store) -> str:
    """A taken key is refused, and keeps its bytes."""
    store.put_if_absent("key", b"first")
    try:
        store.put_if_absent("key", b"second")
    except ConflictError:
        _expect(store.get("key") == b"first", "it refused to overwrite an object, and changed it all the same")
        return "a second write is refused"
    raise Lacking("it overwrote an object that it was asked to keep")


@_guarantee("one of 20 writers wins")
def one_winner(store: Store) -> str:
    """Of writers that race for one key one wins, and its bytes are there."""
    together = threading.Barrier(_WRITERS)

    def write(number: int) -> bool:
        together.wait()
        try:
            store.put_if_absent("key", b"writer %d" % number)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(max_workers=_WRITERS) as pool:
        won = list(pool.map(write, range(_WRITERS)))
    _expect(won.count(True) == 1, f"{won.count(True)} of {_WRITERS} racing writers were told that they won")
    _expect(store.get("key") == b"writer %d" % won.index(True), "the object is not the winner's")
    return "whole, and the others are told"


@_guarantee("a cut-off upload is not seen", advice="A killed publisher could leave a broken version. Use another server.")
def cut_off(store: Store) -> str:
    """An upload whose connection breaks in the middle leaves no object."""
    with _sent_instead(store, "PutObject", _send_half):
        _put(store, "key", b"x" * 200_000)
    time.sleep(0.3)  # for a server that notices late
    _expect(not store.exists("key"), "half an object is visible after its connection broke")
    return "nothing is left of it"


@_guarantee("empty objects")
def empty_objects(store: Store) -> str:
    """An object of no bytes is kept as one."""
    _put(store, "empty", b"")
    _expect(store.get("empty") == b"" and store.keys("") == ["empty"], "an object without bytes is lost")
    return "kept"


@_guarantee("file names", advice="Models whose files have such names can't be stored there.")
def names(store: Store) -> str:
    """Keys are kept apart and given back letter by letter."""
    keys = sorted(
        [
            "a-b_c.d=e/F.0",
            "a b",
            "a+b",
            "a%20b",
            "a%2Fb",
            "a&b=c",
            "é",
            "e\u0301",
            "模型/分片",
            "~!$'()*,;:@[]{}#?",
            "x" * 200,
        ]
    )
    for key in keys:
        _put(store, key, key.encode())
    changed = [key for key in keys if store.get(key) != key.encode()]
    _expect(not changed, f"it mixes up the keys {changed}")
    listed = sorted(store.keys(""))
    _expect(listed == keys, f"a listing shows other names: {sorted(set(listed) ^ set(keys))}")
    return "spaces, signs, any script"


# Reading


@_guarantee("read after write")
def read_after_write(store: Store) -> str:
    """What was written is there for the next request."""
    for number in range(5):
        _expect(not store.exists(f"{number}"), "it has an object that nobody wrote")
        _put(store, f"{number}", b"%d" % number)
        _expect(store.exists(f"{number}") and store.get(f"{number}") == b"%d" % number, "what was just written is not there")
    return "at once"


@_guarantee("ranges")
def ranges(store: Store) -> str:
    """A range gives its bytes and no others; one past the end gives none."""
    body = bytes(range(256)) * 16
    _put(store, "key", body)
    for first, last in ((0, 0), (10, 19), (4000, 4095), (4090, 9000)):
        got = _get_range(store, "key", first, last)
        _expect(got == body[first : last + 1], f"bytes {first} to {last} of 4096 came as {len(got)} bytes, or as others")
    try:
        beyond = _get_range(store, "key", 5000, 6000)
    except NotFoundError:
        return "exact"
    raise Lacking(f"bytes past the end of an object came as {len(beyond)} bytes instead of an error")


@_guarantee("damaged uploads are refused", needed=False, advice="The return finds the damage all the same, by the SHA-256.")
def damaged(store: Store) -> str:
    """A body that contradicts its checksum is refused."""
    sums = {"SHA-256": {"ChecksumSHA256": _sha256(b"sent")}, "MD5": {"ContentMD5": _base64(hashlib.md5(b"sent"))}}
    accepted = [name for name, checksum in sums.items() if _accepts(store, name, checksum)]
    _expect("SHA-256" not in accepted, f"it does not check {' nor '.join(accepted)}")
    return "checked by SHA-256" + ("" if accepted else " and MD5")


# Listing


@_guarantee("list after write")
def list_after_write(store: Store) -> str:
    """A listing shows what was just written, in the order of the keys; so its first entry is an alias' newest revision."""
    written: list[str] = []
    for number in range(5):
        key = layout.revision("m", "a", number)
        _put(store, key, b"revision")
        written.insert(0, key)
        _expect(store.keys(layout.alias("m", "a"), limit=1) == [key], "the newest revision is not the first of a listing")
    _expect(store.keys("") == written, "a listing is not in the order of its keys")
    return "at once, in order, with a limit"


@_guarantee("folders")
def folders(store: Store) -> str:
    """A listing with a delimiter shows the folders right below, once each."""
    for key in ("a/1", "a/2", "a/deep/3", "b/4", "top"):
        _put(store, key, b"x")
    _expect(store.folders("") == ["a", "b"], f"folders come as {store.folders('')} instead of ['a', 'b']")
    _expect(store.folders("a/") == ["deep"], f"folders come as {store.folders('a/')} instead of ['deep']")
    return "by a delimiter"


@_guarantee("pages")
def pages(store: Store) -> str:
    """A listing that is cut into pages shows every key once."""
    keys = [f"{number:02d}" for number in range(7)]
    for key in keys:
        _put(store, key, b"x")
    paginator = store.client.get_paginator("list_objects_v2")
    found = [
        item["Key"].removeprefix(store.prefix)
        for page in paginator.paginate(Bucket=store.bucket, Prefix=store.prefix, PaginationConfig={"PageSize": 3})
        for item in page.get("Contents", [])
    ]
    _expect(found == keys, f"in pages of three, {keys} come as {found}")
    return "each key once"


@_guarantee("more than 1,000 keys", thorough=True)
def many_keys(store: Store) -> str:
    """A listing of more keys than fit one page is whole."""
    keys = [f"{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda key: _put(store, key, b"x"), keys))
    _expect(store.keys("") == keys, f"of {len(keys)} keys a listing shows {len(store.keys(''))}")
    return f"{len(keys)} listed"


# Large files


@_guarantee("uploads in parts")
def parts(store: Store) -> str:
    """Parts are put together in their order, each checked, and read back by ranges."""
    return _in_parts(store, [b"a" * _PART, b"the end"])


@_guarantee("a large file in parts", thorough=True)
def large(store: Store) -> str:
    """The same with parts that are sent at once, out of order."""
    return _in_parts(store, [os.urandom(16 * 2**20), os.urandom(16 * 2**20), os.urandom(9 * 2**20 + 1)])


@_guarantee("an unfinished upload is not seen")
def unfinished(store: Store) -> str:
    """Parts are invisible before they are put together, and gone after an abort."""
    where: Any = {"Bucket": store.bucket, "Key": f"{store.prefix}key"}
    upload = store.client.create_multipart_upload(**where)["UploadId"]
    store.client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    _expect(not store.exists("key") and store.keys("") == [], "an upload that is not complete shows as an object")
    store.client.abort_multipart_upload(**where, UploadId=upload)
    _expect(not store.exists("key") and store.keys("") == [], "an upload that was aborted shows as an object")
    _expect(not _uploads(store), "an upload that was aborted is still kept")
    return "and can be aborted"


# Deleting, and who may


@_guarantee("delete")
def delete(store: Store) -> str:
    """What was deleted is gone from reads and listings, and its key is free."""
    for key in ("gone", "stays"):
        _put(store, key, b"x")
    store.delete("gone")
    store.delete("gone")
    _expect(not store.exists("gone") and store.keys("") == ["stays"], "a deleted object is still there")
    store.put_if_absent("gone", b"again")
    _expect(store.get("gone") == b"again", "a deleted key can't be written again")
    return "at once, and the key is free"


@_guarantee("a wrong signature is refused", needed=False, advice="Whoever reaches this server can change your models.")
def wrong_secret(store: Store) -> str:
    """A request that is signed with another secret is refused."""

    def spoil(request: Any) -> None:
        # The signature ends the header.
        signed = _text(request.headers["Authorization"])
        request.headers["Authorization"] = signed[:-4] + ("0000" if signed[-4:] != "0000" else "1111")

    return _refuses(store, spoil, "a request with a wrong signature")


@_guarantee(
    "anonymous reads are refused", needed=False, advice="Anybody can read this bucket. Close it, unless you mean it."
)
def anonymous(store: Store) -> str:
    """A request without a signature is refused."""

    def strip(request: Any) -> None:
        del request.headers["Authorization"]

    return _refuses(store, strip, "a request without a signature")


@_guarantee("clock", needed=False, advice="Versions sort by this machine's clock. Set it right, or run an NTP client.")
def clock(store: Store) -> str:
    """The server's clock and ours agree."""
    from email.utils import parsedate_to_datetime

    answer = store.client.list_objects_v2(Bucket=store.bucket, Prefix=store.prefix, MaxKeys=1)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    _expect(date is not None, "the server does not say what time it is")
    apart = abs(parsedate_to_datetime(str(date)).timestamp() - time.time())
    _expect(apart < 60, f"this machine's is {apart:.0f} s away from the server's")  # noqa: PLR2004
    return "agrees with ours"


# How


def _below(store: Store, prefix: str) -> Store:
    return replace(store, prefix=store.prefix + prefix)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Lacking(otherwise)


def _put(store: Store, key: str, body: bytes) -> None:
    store.client.put_object(Bucket=store.bucket, Key=store.prefix + key, Body=body)


def _get_range(store: Store, key: str, first: int, last: int) -> bytes:
    with store.errors(key):
        answer = store.client.get_object(Bucket=store.bucket, Key=store.prefix + key, Range=f"bytes={first}-{last}")
        return answer["Body"].read()


def _accepts(store: Store, key: str, checksum: dict[str, str]) -> bool:
    """Whether the store takes a body that is not the one the checksum is of."""
    from botocore.exceptions import ClientError

    arguments: Any = {"Bucket": store.bucket, "Key": store.prefix + key, "Body": b"came"} | checksum
    try:
        store.client.put_object(**arguments)
    except ClientError:
        return False
    return True


def _in_parts(store: Store, bodies: list[bytes]) -> str:
    where: Any = {"Bucket": store.bucket, "Key": f"{store.prefix}key"}
    upload = store.client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]

    def send(number: int) -> Any:
        body, checksum = bodies[number - 1], _sha256(bodies[number - 1])
        tag = store.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body, ChecksumSHA256=checksum)[
            "ETag"
        ]
        return {"PartNumber": number, "ETag": tag, "ChecksumSHA256": checksum}

    with ThreadPoolExecutor(max_workers=len(bodies)) as pool:
        sent = sorted(pool.map(send, range(len(bodies), 0, -1)), key=lambda part: part["PartNumber"])
    store.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": sent})
    whole = b"".join(bodies)
    _expect(store.get("key") == whole, "an object of several parts is not what was sent")
    seam = len(bodies[0])
    _expect(_get_range(store, "key", seam - 3, seam + 2) == whole[seam - 3 : seam + 3], "a range over two parts is wrong")
    return f"{len(whole) / 2**20:.0f} MiB, {len(bodies)} parts"


def _uploads(store: Store) -> list[Any]:
    """Unfinished uploads below the prefix; none where we may not look."""
    from botocore.exceptions import ClientError

    try:
        answer = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix)
    except ClientError:
        return []
    # Not every server heeds the prefix.
    return [u for u in answer.get("Uploads", []) if u["Key"].startswith(store.prefix)]


def _refuses(store: Store, change: Callable[[Any], None], what: str) -> str:
    """Whether a read is refused after its request was changed on the way out."""
    _put(store, "key", b"secret")

    def handler(request: Any) -> None:
        change(request)

    with _sent_instead(store, "GetObject", handler):
        try:
            store.get("key")
        except DeniedError:
            return "refused"
    raise Lacking(f"{what} was answered")


@contextmanager
def _sent_instead(store: Store, operation: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Hand signed requests of this check, and of no other that uses the client, to a handler before they go out."""
    from urllib.parse import quote

    mark, event = quote(store.prefix), f"before-send.s3.{operation}"

    def handler(request: Any, **_: Any) -> Any:
        return change(request) if mark in request.url else None

    store.client.meta.events.register(event, handler)
    try:
        yield
    finally:
        store.client.meta.events.unregister(event, handler)


def _send_half(request: Any) -> Any:
    """Send a request whose body breaks off in the middle; what comes back to the caller is made up."""
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import HTTPClientError
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    class Breaks(io.RawIOBase):
        def __init__(self, body: bytes) -> None:
            self._left = body

        def read(self, size: int = -1) -> bytes:
            if not self._left:
                raise BrokenPipeError("broken off on purpose")
            piece, self._left = self._left[:size], self._left[size:]
            return piece

    whole: bytes = request.body
    request.body = Breaks(whole[: len(whole) // 2])
    session = URLLib3Session(
        verify=os.environ.get("AWS_CA_BUNDLE", True), proxies=get_environ_proxies(request.url), timeout=5
    )
    try:
        session.send(request)
    except HTTPClientError:
        return AWSResponse(request.url, 200, {}, io.BytesIO())
    raise Lacking("it took half an upload for a whole one")


def _clear(scratch: Store) -> None:
    """Remove what a check left, old versions included; what can't be removed stays, for a check to complain about."""
    from botocore.exceptions import BotoCoreError, ClientError

    client, where = scratch.client, {"Bucket": scratch.bucket}
    try:
        for upload in _uploads(scratch):
            client.abort_multipart_upload(Bucket=scratch.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(scratch.delete, scratch.keys("")))
        if client.get_bucket_versioning(Bucket=scratch.bucket).get("Status"):
            for page in client.get_paginator("list_object_versions").paginate(**where, Prefix=scratch.prefix):
                for kind in ("Versions", "DeleteMarkers"):
                    for entry in page.get(kind, []):
                        client.delete_object(Bucket=scratch.bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    except (BotoCoreError, ClientError, RoundtripError):
        return


def _text(header: str | bytes) -> str:
    return header.decode() if isinstance(header, bytes) else header


def _sha256(body: bytes) -> str:
    return _base64(hashlib.sha256(body))


def _base64(digest: Any) -> str:
    return base64.b64encode(digest.digest()).decode()
