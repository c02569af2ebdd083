"""What Roundtrip needs from an S3 server, one check each; `conformance.py` runs them.

A check works below a prefix of its own, raises `Lacking` where the guarantee does not hold, and returns what it saw.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tasks.errors import ConflictError, NotFoundError, UnreachableError
from tasks.storage import layout
from tasks.storage.guarantees.probes import (
    BrokenOff,
    Lacking,
    accepts,
    base64_of,
    expect,
    get_range,
    in_parts,
    put,
    refuses,
    send_half,
    sent_instead,
    sha256,
    text,
    there,
    uploads,
)
from tasks.storage.store import Store

GOOD_SERVERS = "Use a server that honours it: Amazon S3, Ceph RGW, MinIO, SeaweedFS, R2."
_WRITERS = 20
_PART = 5 * 2**20  # the smallest that S3 takes for any part but the last


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


GUARANTEES: list[Guarantee] = []


def _guarantee(
    name: str, *, needed: bool = True, thorough: bool = False, advice: str = GOOD_SERVERS
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
        expect(store.get("key") == b"first", "it refused to overwrite an object, and changed it all the same")
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
    expect(won.count(True) == 1, f"{won.count(True)} of {_WRITERS} racing writers were told that they won")
    expect(store.get("key") == b"writer %d" % won.index(True), "the object is not the winner's")
    return "whole, and the others are told"


@_guarantee("a cut-off upload is not seen", advice="A killed publisher could leave a broken version. Use another server.")
def cut_off(store: Store) -> str:
    """An upload whose connection breaks in the middle leaves no object."""
    with suppress(BrokenOff), sent_instead(store, "PutObject", send_half):
        put(store, "key", b"x" * 200_000)
    time.sleep(0.3)  # for a server that notices late
    expect(not there(store, "key"), "half an object is visible after its connection broke")
    return "nothing is left of it"


@_guarantee("empty objects")
def empty_objects(store: Store) -> str:
    """An object of no bytes is kept as one."""
    put(store, "empty", b"")
    expect(store.get("empty") == b"" and store.keys("") == ["empty"], "an object without bytes is lost")
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
        put(store, key, key.encode())
    changed = [key for key in keys if store.get(key) != key.encode()]
    expect(not changed, f"it mixes up the keys {changed}")
    listed = set(store.keys(""))
    expect(listed == set(keys), f"a listing shows other names: {sorted(listed ^ set(keys))}")
    return "spaces, signs, any script"


# Reading


@_guarantee("read after write")
def read_after_write(store: Store) -> str:
    """What was written is there for the next request."""
    for number in range(5):
        expect(not there(store, f"{number}"), "it has an object that nobody wrote")
        put(store, f"{number}", b"%d" % number)
        expect(there(store, f"{number}") and store.get(f"{number}") == b"%d" % number, "what was just written is not there")
    return "at once"


@_guarantee("ranges")
def ranges(store: Store) -> str:
    """A range gives its bytes and no others; one past the end gives none."""
    body = bytes(range(256)) * 16
    put(store, "key", body)
    for first, last in ((0, 0), (10, 19), (4000, 4095), (4090, 9000)):
        got = get_range(store, "key", first, last)
        expect(got == body[first : last + 1], f"bytes {first} to {last} of 4096 came as {len(got)} bytes, or as others")
    try:
        beyond = get_range(store, "key", 5000, 6000)
    except NotFoundError:
        return "exact"
    raise Lacking(f"bytes past the end of an object came as {len(beyond)} bytes instead of an error")


@_guarantee("damaged uploads are refused", needed=False, advice="The return finds the damage all the same, by the SHA-256.")
def damaged(store: Store) -> str:
    """A body that contradicts its checksum is refused."""
    sums = {"SHA-256": {"ChecksumSHA256": sha256(b"sent")}, "MD5": {"ContentMD5": base64_of(hashlib.md5(b"sent"))}}
    accepted = [name for name, checksum in sums.items() if accepts(store, name, checksum)]
    expect("SHA-256" not in accepted, f"it does not check {' nor '.join(accepted)}")
    return "checked by SHA-256" + ("" if accepted else " and MD5")


# Listing


@_guarantee("list after write")
def list_after_write(store: Store) -> str:
    """A listing shows what was just written, in the order of the keys; so its first entry is an alias' newest revision."""
    written: list[str] = []
    for number in range(5):
        key = layout.revision("m", "a", number)
        put(store, key, b"revision")
        written.insert(0, key)
        expect(store.keys(layout.alias("m", "a"), limit=1) == [key], "the newest revision is not the first of a listing")
    expect(store.keys("") == written, "a listing is not in the order of its keys")
    return "at once, in order, with a limit"


@_guarantee("folders")
def folders(store: Store) -> str:
    """A listing with a delimiter shows the folders right below, once each."""
    for key in ("a/1", "a/2", "a/deep/3", "b/4", "top"):
        put(store, key, b"x")
    expect(store.folders("") == ["a", "b"], f"folders come as {store.folders('')} instead of ['a', 'b']")
    expect(store.folders("a/") == ["deep"], f"folders come as {store.folders('a/')} instead of ['deep']")
    return "by a delimiter"


@_guarantee("pages")
def pages(store: Store) -> str:
    """A listing that is cut into pages shows every key once."""
    keys = [f"{number:02d}" for number in range(7)]
    for key in keys:
        put(store, key, b"x")
    paginator = store.client.get_paginator("list_objects_v2")
    found = [
        item["Key"].removeprefix(store.prefix)
        for page in paginator.paginate(Bucket=store.bucket, Prefix=store.prefix, PaginationConfig={"PageSize": 3})
        for item in page.get("Contents", [])
    ]
    expect(found == keys, f"in pages of three, {keys} come as {found}")
    return "each key once"


@_guarantee("more than 1,000 keys", thorough=True)
def many_keys(store: Store) -> str:
    """A listing of more keys than fit one page is whole."""
    keys = [f"{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda key: put(store, key, b"x"), keys))
    expect(store.keys("") == keys, f"of {len(keys)} keys a listing shows {len(store.keys(''))}")
    return f"{len(keys)} listed"


# Large files


@_guarantee("uploads in parts")
def parts(store: Store) -> str:
    """Parts are put together in their order, each checked, and read back by ranges."""
    return in_parts(store, [b"a" * _PART, b"the end"])


@_guarantee("a large file in parts", thorough=True)
def large(store: Store) -> str:
    """The same with parts that are sent at once, out of order."""
    return in_parts(store, [os.urandom(16 * 2**20), os.urandom(16 * 2**20), os.urandom(9 * 2**20 + 1)])


@_guarantee("an unfinished upload is not seen")
def unfinished(store: Store) -> str:
    """Parts are invisible before they are put together, and gone after an abort."""
    where: Any = {"Bucket": store.bucket, "Key": f"{store.prefix}key"}
    upload = store.client.create_multipart_upload(**where)["UploadId"]
    store.client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    expect(not there(store, "key") and store.keys("") == [], "an upload that is not complete shows as an object")
    store.client.abort_multipart_upload(**where, UploadId=upload)
    expect(not there(store, "key") and store.keys("") == [], "an upload that was aborted shows as an object")
    expect(not uploads(store), "an upload that was aborted is still kept")
    return "and can be aborted"


# Deleting, and who may


@_guarantee("delete")
def delete(store: Store) -> str:
    """What was deleted is gone from reads and listings, and its key is free."""
    for key in ("gone", "stays"):
        put(store, key, b"x")
    store.delete("gone")
    store.delete("gone")
    expect(not there(store, "gone") and store.keys("") == ["stays"], "a deleted object is still there")
    store.put_if_absent("gone", b"again")
    expect(store.get("gone") == b"again", "a deleted key can't be written again")
    return "at once, and the key is free"


@_guarantee("a wrong signature is refused", needed=False, advice="Whoever reaches this server can change your models.")
def wrong_secret(store: Store) -> str:
    """A request that is signed with another secret is refused."""

    def spoil(request: Any) -> None:
        # The signature ends the header.
        signed = text(request.headers["Authorization"])
        request.headers["Authorization"] = signed[:-4] + ("0000" if signed[-4:] != "0000" else "1111")

    return refuses(store, spoil, "a request with a wrong signature")


@_guarantee(
    "anonymous reads are refused", needed=False, advice="Anybody can read this bucket. Close it, unless you mean it so."
)
def anonymous(store: Store) -> str:
    """A request without a signature is refused."""

    def strip(request: Any) -> None:
        del request.headers["Authorization"]

    return refuses(store, strip, "a request without a signature")


@_guarantee("clock", needed=False, advice="Versions sort by this clock, and `gc` goes by the server's. Set both right.")
def clock(store: Store) -> str:
    """The server's clock and ours agree."""
    try:
        apart = abs(store.now().timestamp() - time.time())
    except UnreachableError as silent:
        raise Lacking(str(silent)) from None
    expect(apart < 60, f"this machine's is {apart:.0f} s away from the server's")  # noqa: PLR2004
    return "agrees with ours"
