"""A store of its own for a row of cases, seen from three sides: directly, through the proxy, and by the witness."""

from __future__ import annotations

import functools
import itertools
import uuid
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.retries import base, quota, standard

from tasks.settings import StoreConfig
from tasks.storage import (
    Manifest,
    Store,
    advance_latest,
    embedded,
    fetch,
    layout,
    move_alias,
    open_store,
    read_manifest,
)
from tasks.storage.aliases import aliases
from tasks.storage.connection import retries
from tasks.storage.transfer import downloads, uploads
from tasks.storage.upkeep.collect import carry_out, plan
from tasks.storage.upkeep.retention import Retention
from tasks.verification.verdict import Verdict, record
from tests.faults.proxy import Case, Proxy
from tests.faults.witness import Version, Witness
from tests.proofs import verdict_on
from tests.storage.samples import published

ATTEMPTS = 3
PATIENCE = 30.0  # seconds; for faults that are noticed at once
IMPATIENCE = 0.4  # for those that are noticed by waiting only
EVERYTHING = Retention(keep_last=0, leftovers_older_than=timedelta(0))
TINY = {"probe.npz": b"p" * 10}
SMALL = {"model/weights.bin": b"w" * 3000, "probe.npz": b"p" * 300}
LARGE = {"model/weights.bin": b"v" * (5 * 2**20 + 1000), "probe.npz": b"p" * 300}


def small_parts() -> None:
    """Let uploads in parts begin at 5 MiB, the smallest part that S3 takes; for this whole process."""
    uploads.PART = uploads.SINGLE = downloads.PART = 5 * 2**20


def usual_parts(_were: tuple[int, int, int] = (uploads.PART, uploads.SINGLE, downloads.PART)) -> None:
    """Take `small_parts` back."""
    uploads.PART, uploads.SINGLE, downloads.PART = _were


class _AtOnce(base.BaseRetryBackoff):
    """Waits for nothing between attempts."""

    def delay_amount(self, context: Any) -> float:
        del context
        return 0.0


class Clients:
    """The product's client with other limits, made in milliseconds from one session."""

    def __init__(self, access: embedded.Access) -> None:
        own = access.for_client()
        self.product = open_store(StoreConfig(url=f"s3://{access.bucket}"), own)
        self._session = own.session

    def client(self, endpoint: str, *, patience: float = PATIENCE) -> Any:
        """As the product's, with few attempts and no wait between them."""
        config = self.product.client.meta.config.merge(
            Config(read_timeout=patience, retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
        )
        client = self._session.client("s3", endpoint_url=endpoint, config=config)
        client.meta.events.unregister("needs-retry.s3", unique_id="retry-config-s3")
        policy = standard.RetryPolicy(standard.StandardRetryConditions(ATTEMPTS), _AtOnce())
        handler = standard.RetryHandler(policy, standard.RetryEventAdapter(), standard.RetryQuotaChecker(quota.RetryQuota()))
        client.meta.events.register("needs-retry.s3", handler.needs_retry, unique_id="retry-config-s3")
        retries.try_again(client, ATTEMPTS, wait=lambda _: 0.0)
        return client

    def store(self, endpoint: str, prefix: str, *, patience: float = PATIENCE) -> Store:
        """A store of the product's at an endpoint, through such a client."""
        client = self.client(endpoint, patience=patience)
        return replace(self.product, client=client, prefix=prefix, endpoint=endpoint)


@dataclass(slots=True)
class World:
    """One store prefix with a verified version `first`, at which `latest` and `production` point.

    Attributes:
        direct: Past the proxy.
        proxied: Through it.
        case: What the proxy does to it.
        removed: Versions that gc was allowed to take.
    """

    clients: Clients
    proxy: Proxy
    folder: Path
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    direct: Store = field(init=False)
    case: Case = field(init=False)
    witness: Witness = field(init=False)
    first: Manifest = field(init=False)
    _number: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        product = self.clients.product
        self.direct = self.clients.store(product.endpoint or "", f"{self.id}/")
        self.case = self.proxy.case(self.id)
        self.witness = Witness(self.direct.client, product.bucket, f"{self.id}/")
        self.first = self.verified()
        move_alias(self.direct, "digits", "production", self.first.version, verdict_of(self.first).id, "the first")
        assert self.witness.complaints() == []

    def proxied(self, patience: float = PATIENCE) -> Store:
        """The store through the proxy, by a client that nobody used before: its quota of retries is whole."""
        return self.clients.store(self.proxy.url, f"{self.id}/", patience=patience)

    def place(self) -> Path:
        """A new folder's name."""
        return self.folder / self.id / str(next(self._number))

    def published(self, files: dict[str, bytes] = SMALL) -> Manifest:
        """Publish a version past the proxy."""
        return published(self.direct, self.place(), files)

    def verified(self) -> Manifest:
        """Publish a version past the proxy and let it pass; `latest` moves to it."""
        manifest = self.published()
        verdict = verdict_of(manifest)
        record(self.direct, verdict)
        assert advance_latest(self.direct, manifest.model, manifest.version, verdict.id)
        return manifest

    def abandoned(self) -> None:
        """What a publisher leaves that died: a file of a version without a manifest, and an upload that is not finished."""
        place = self.direct.prefix + layout.bundle("digits", layout.new_version())
        client, bucket = self.direct.client, self.direct.bucket
        client.put_object(Bucket=bucket, Key=f"{place}probe.npz", Body=b"left behind")
        where: Any = {"Bucket": bucket, "Key": f"{place}model/weights.bin"}
        upload = client.create_multipart_upload(**where)["UploadId"]
        client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"half")

    def is_clean(self) -> bool:
        """Whether gc would find nothing, as far as the witness knows."""
        return self.witness.whole == {("digits", v) for v in aliases(self.direct, "digits").values()}

    def collected(self) -> None:
        """Collect all garbage, past the proxy: every version that has no alias, and everything that is invisible."""
        self.witness.removable |= self.witness.whole - {("digits", v) for v in aliases(self.direct, "digits").values()}
        carry_out(self.direct, plan(self.direct, EVERYTHING, ["digits"]))

    def fetched(self, version: Version) -> None:
        """Fetch a visible version as a user does."""
        fetch(self.direct, read_manifest(self.direct, *version), self.place())


@functools.cache
def _verdict(model: str, version: str) -> Verdict:
    return verdict_on(model, version)


def verdict_of(manifest: Manifest) -> Verdict:
    """A passed verdict on a version, always the same one."""
    return _verdict(manifest.model, manifest.version)
