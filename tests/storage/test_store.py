from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from tasks.errors import ConflictError, InputError, NotFoundError, UnreachableError, UnsafeError
from tasks.settings import StoreConfig
from tasks.shared_server import free_ports
from tasks.storage import Store, open_store
from tasks.storage.guarantees.conformance import check_store
from tests.storage.samples import put

# put_if_absent


def test_of_twenty_racing_writers_exactly_one_wins(store: Store) -> None:
    start = threading.Barrier(20)

    def write(number: int) -> bool:
        start.wait()
        try:
            store.put_if_absent("race", b"writer %d" % number)
        except ConflictError:
            return False
        return True

    # Seconds, because SeaweedFS' lock of a key is asked for again once a second.
    with ThreadPoolExecutor(max_workers=20) as pool:
        won = list(pool.map(write, range(20)))
    assert won.count(True) == 1
    assert store.get("race") == b"writer %d" % won.index(True)


def test_a_taken_key_is_not_overwritten(store: Store) -> None:
    store.put_if_absent("key", b"first")
    with pytest.raises(ConflictError, match="was written by somebody else first"):
        store.put_if_absent("key", b"second")
    assert store.get("key") == b"first"


def test_a_writer_that_finds_its_own_bytes_has_won(store: Store) -> None:
    store.put_if_absent("key", b"mine")
    store.put_if_absent("key", b"mine")
    assert store.get("key") == b"mine"


def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_elses(store: Store) -> None:
    attempts: list[str] = []

    def lose_the_first_answer(request: Any, **_: Any) -> None:
        attempts.append(request.url)
        if len(attempts) == 1:
            other = open_store()
            other.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}key", Body=b"mine")
            raise ConnectionClosedError(endpoint_url=request.url)

    store.client.meta.events.register("before-send.s3.PutObject", lose_the_first_answer)
    store.put_if_absent("key", b"mine")
    assert len(attempts) == 2
    assert store.get("key") == b"mine"


@pytest.mark.parametrize("status", [409, 429, 500])
def test_a_write_that_was_done_and_called_failed_has_won(store: Store, status: int) -> None:
    def say_otherwise(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
        parsed["Error"] = {"Code": "Injected", "Message": "injected"}
        http_response.status_code = status

    store.client.meta.events.register("after-call.s3.PutObject", say_otherwise)
    store.put_if_absent("key", b"mine")
    assert store.get("key") == b"mine"


@pytest.mark.parametrize("status", [409, 429, 503])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(store: Store, status: int) -> None:
    attempts: list[str] = []

    def be_busy_once(request: Any, **_: Any) -> AWSResponse | None:
        attempts.append(request.url)
        return AWSResponse(request.url, status, {}, _Empty()) if len(attempts) == 1 else None

    store.client.meta.events.register("before-send.s3.PutObject", be_busy_once)
    store.put_if_absent("key", b"mine")
    assert len(attempts) == 2
    assert store.get("key") == b"mine"


class _Empty:
    """A body without bytes, as urllib3 has it."""

    def stream(self) -> Iterator[bytes]:
        yield b""


def test_a_write_of_which_nothing_is_known_says_so(store: Store) -> None:
    for operation in ("PutObject", "GetObject"):
        store.client.meta.events.register(f"before-send.s3.{operation}", _hang_up)
    store.client.meta.events.unregister("needs-retry.s3", unique_id="retry-config-s3")
    with pytest.raises(UnreachableError, match=f"It is not known whether {store.url}/key was written"):
        store.put_if_absent("key", b"mine")


def test_a_small_object_that_is_damaged_on_its_way_up_is_refused(store: Store) -> None:
    def damage(request: Any, **_: Any) -> None:
        request.body = b"hiss"

    store.client.meta.events.register("before-send.s3.PutObject", damage)
    with pytest.raises(UnreachableError, match="BadDigest"):
        store.put_if_absent("key", b"mine")
    assert store.keys("") == []


def test_a_small_object_that_is_damaged_on_its_way_down_or_in_the_store_is_refused(store: Store) -> None:
    store.put_if_absent("key", b'{"passed": false}')
    kept = store.client.head_object(Bucket=store.bucket, Key=f"{store.prefix}key")["Metadata"]
    store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}key", Body=b'{"passed": fals\x64}', Metadata=kept)
    with pytest.raises(UnsafeError, match=f"{store.url}/key is not what was written"):
        store.get("key")


def test_an_object_that_lost_its_metadata_is_taken_as_it_is(store: Store) -> None:
    put(store, "key", b"copied by a plain tool")
    assert store.get("key") == b"copied by a plain tool"


def _hang_up(request: Any, **_: Any) -> None:
    raise ConnectionClosedError(endpoint_url=request.url)


# get, exists, keys, folders, delete


def test_what_is_not_there_is_not_found(store: Store) -> None:
    assert not store.exists("nothing")
    with pytest.raises(NotFoundError, match=f"There is no {store.url}/nothing"):
        store.get("nothing")


def test_keys_come_in_their_order_without_the_stores_prefix(store: Store) -> None:
    for key in ("b/2", "a/1", "b/1", "c"):
        store.put_if_absent(key, key.encode())
    assert store.keys("") == ["a/1", "b/1", "b/2", "c"]
    assert store.keys("b/") == ["b/1", "b/2"]
    assert store.keys("b/", limit=1) == ["b/1"]
    assert store.keys("d/") == []
    assert store.folders("") == ["a", "b"]
    assert store.exists("c")


def test_a_list_that_was_damaged_on_its_way_is_no_traceback(store: Store) -> None:
    def damage(response_dict: dict[str, Any], **_: Any) -> None:
        response_dict["body"] = response_dict["body"].replace(b"Z</LastModified>", b"[</LastModified>")

    store.put_if_absent("key", b"mine")
    store.client.meta.events.register("before-parse.s3.ListObjectsV2", damage)
    with pytest.raises(UnreachableError, match=f"The store {store.url} .* gave an answer that can't be read"):
        store.keys("")


def test_two_prefixes_of_one_bucket_do_not_see_each_other(store: Store) -> None:
    inner = replace(store, prefix=f"{store.prefix}inner/")
    inner.put_if_absent("key", b"inner")
    assert store.keys("key") == []
    assert store.keys("") == ["inner/key"]
    assert inner.keys("") == ["key"]


def test_deleting_twice_is_no_error(store: Store) -> None:
    store.put_if_absent("key", b"x")
    store.delete("key")
    store.delete("key")
    assert not store.exists("key")


# open_store, check_store


def test_a_good_store_passes_the_check_and_keeps_nothing_of_it(store: Store) -> None:
    check_store(store)
    assert store.keys("") == []


def test_the_argument_names_the_store_too(store: Store) -> None:
    other = open_store(StoreConfig(url=f"s3://{store.bucket}/elsewhere"))
    assert (other.bucket, other.prefix, other.url) == (store.bucket, "elsewhere/", f"s3://{store.bucket}/elsewhere")


def test_a_missing_bucket_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"There is no bucket 'no-such-bucket' at http://127.0.0.1:.*Create it first"):
        check_store(replace(store, bucket="no-such-bucket"))


def test_wrong_credentials_are_said_to_be_wrong(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UnreachableError, match=r"refuses the credentials.*Check AWS_PROFILE or the keys"):
        check_store(open_store())


def test_an_unknown_access_key_is_said_to_be_wrong(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(UnreachableError, match=r"refuses the credentials.*Check AWS_PROFILE or the keys"):
        check_store(open_store())


def test_missing_credentials_are_asked_for(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UnreachableError, match="Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        check_store(open_store())


def test_a_profile_that_does_not_exist_is_an_input_error(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(InputError, match="no-such-profile"):
        open_store()


def test_an_endpoint_where_nobody_listens_is_named(store: Store) -> None:
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    with pytest.raises(UnreachableError, match=f"at {endpoint} does not answer"):
        check_store(replace(store, client=impatient(endpoint), endpoint=endpoint))


def test_a_store_that_ignores_if_none_match_is_refused(careless: str, store: Store) -> None:
    with pytest.raises(UnreachableError, match=f"at {careless} ignores `If-None-Match: \\*`.*Use a server that honours"):
        check_store(replace(store, client=impatient(careless), endpoint=careless))


def test_the_stand_in_passes_where_it_honours_if_none_match(careful: str, store: Store) -> None:
    check_store(replace(store, client=impatient(careful), endpoint=careful))


def impatient(endpoint: str) -> Any:
    """A client that tries once."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        ),
    )


@pytest.fixture
def careless() -> Iterator[str]:
    yield from _serve(honours=False)


@pytest.fixture
def careful() -> Iterator[str]:
    yield from _serve(honours=True)


def _serve(*, honours: bool) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(honours))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def _handler(honours: bool) -> Callable[..., BaseHTTPRequestHandler]:
    """As little of S3 as the check needs."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if honours and self.headers["If-None-Match"] == "*" and self.path in objects:
                self.answer(412)
                return
            objects[self.path] = body
            self.answer(200)

        def do_GET(self) -> None:
            self.answer(200 if self.path in objects else 404, objects.get(self.path, b""))

        def do_DELETE(self) -> None:
            objects.pop(self.path, None)
            self.answer(204)

        def answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
