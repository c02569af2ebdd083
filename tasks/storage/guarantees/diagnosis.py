"""What the user's store is, as `python -m flows doctor` tells it: access, guarantees, settings, and what each step costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tasks.errors import ForbiddenError, RoundtripError
from tasks.settings import StoreConfig
from tasks.storage import layout
from tasks.storage.connection.client import Access
from tasks.storage.guarantees.conformance import Check, examine
from tasks.storage.guarantees.probes import clear
from tasks.storage.store import Store

# Amazon's list price in us-east-1, dollars: a request that writes or lists, one that reads.
_WRITE, _READ = 0.005 / 1000, 0.0004 / 1000
REQUESTS = (
    # What, writes and lists, reads: a version whose eight files are small, of a model with one alias.
    ("publish", 11, 0),
    ("resolve", 1, 1),
    ("return", 7, 13),
)


def diagnose(store: Store, config: StoreConfig, access: Access | None, *, write: bool, thorough: bool) -> Iterator[Check]:
    """Check a store that was opened, and so answers.

    Args:
        store: The store.
        config: With which it was opened, completed.
        access: With which it was opened; None for the embedded store's own.
        write: Whether to write probes; without it only reading is checked.
        thorough: Also move what takes longer: 1,000 objects, a large file.

    Yields:
        Checks, in the order in which they should be read.
    """
    yield _address(store)
    if access:
        yield _credentials(access)
    options = _options(store, config) if write else None
    if options:
        yield options
        if options.status == "problem":
            return  # nothing can be written as it is configured, so nothing else can be said
    may, cleanable = _access(store, write=write)
    yield may
    if cleanable:
        yield from examine(store, thorough=thorough)
    else:
        advice = f"Run it with credentials that may write and delete below {store.uri(layout.scratch('*'))}."
        yield Check("guarantees", "warning", "not checked: that takes writing, and cleaning up", advice)
    yield from _bucket(store)
    yield _costs()


def _address(store: Store) -> Check:
    endpoint, region = urlsplit(store.client.meta.endpoint_url), store.client.meta.region_name
    style = (getattr(store.client.meta.config, "s3", None) or {}).get("addressing_style", "virtual")
    detail = f"{store.url} at {endpoint.geturl()}, region {region}, {style} addressing"
    local = endpoint.hostname in {"127.0.0.1", "::1", "localhost"}
    if endpoint.scheme == "http" and not local:
        return Check("address", "warning", detail, "What is sent can be read and changed on the way. Use https://.")
    return Check("address", "ok", detail)


def _credentials(access: Access) -> Check:
    found = access.session.get_credentials()
    assert found  # the store was opened with them
    until = getattr(found, "_expiry_time", None)  # of roles and sign-ons, which renew themselves
    ends = f", until {until.astimezone(UTC):%H:%M} UTC, then renewed" if isinstance(until, datetime) else ""
    return Check("credentials", "ok", f"from {found.method}{ends}")


def _access(store: Store, *, write: bool) -> tuple[Check, bool]:
    """What the credentials may do; and whether the suite can write, and clean up."""
    probe = replace(store, prefix=store.prefix + layout.scratch(layout.new_version()))
    found: list[str] = []
    lists = _may(lambda: found.extend(store.keys("", limit=1)))
    writes = write and _may(lambda: probe.put_if_absent("key", b"probe"))
    # Of a key that is not there, nobody learns whether he might have read it.
    reads = _may(lambda: probe.get("key")) if writes else not found or _may(lambda: store.exists(found[0]))
    deletes = writes and _may(lambda: probe.delete("key"))
    if deletes:
        clear(probe)  # where the bucket keeps old versions
    can = {"list": lists, "read": reads, "write": writes, "delete": deletes}
    detail = f"may {', '.join(verb for verb, allowed in can.items() if allowed) or 'do nothing'}"
    if not (lists and reads):
        advice = "Nothing can be returned. Policies that are enough: deployments/policies."
        return Check("access", "problem", detail, advice), False
    if not write:
        return Check("access", "ok", f"{detail}; writing was not tried"), False
    if not writes:
        advice = "Enough to return a model. To publish, too: deployments/policies/publisher.json."
        return Check("access", "warning", f"read-only: {detail}", advice), False
    return Check("access", "ok", detail, "" if deletes else f"{probe.uri('key')} stays; `gc` needs to delete."), deletes


def _may(request: Callable[[], object]) -> bool:
    try:
        request()
    except ForbiddenError:
        return False
    return True


def _options(store: Store, config: StoreConfig) -> Check | None:
    """Whether an object that is written gets what is configured; None where nothing is, or nothing may be written."""
    wanted: dict[str, Any] = {
        "ServerSideEncryption": config.encryption,
        "StorageClass": config.storage_class if config.storage_class != "STANDARD" else None,
        "TagCount": config.tags and len(config.tags.split("&")),
    }
    wanted = {name: value for name, value in wanted.items() if value}
    if not wanted:
        return None
    probe = replace(store, prefix=store.prefix + layout.scratch(layout.new_version()))
    where: Any = {"Bucket": probe.bucket, "Key": f"{probe.prefix}key"}
    try:
        probe.put_if_absent("key", b"probe")
        with probe.errors("key"):
            found: dict[str, Any] = {**probe.client.head_object(**where)}
            if "TagCount" in wanted:
                found["TagCount"] = len(probe.client.get_object_tagging(**where)["TagSet"])
        clear(probe)
    except ForbiddenError:
        return None
    except RoundtripError as error:
        return Check("options", "problem", str(error), "Check the variables that start with ROUNDTRIP_STORE_.")
    ignored = [name for name, value in wanted.items() if found.get(name) != value]
    if ignored:
        return Check("options", "problem", f"the store ignores {', '.join(ignored)}", "Unset them, or use another store.")
    return Check("options", "ok", f"applied: {', '.join(wanted)}")


def _bucket(store: Store) -> Iterator[Check]:
    """Settings of the bucket that concern models, as far as the credentials may see them."""
    from botocore.exceptions import ClientError

    try:
        versioning = store.client.get_bucket_versioning(Bucket=store.bucket).get("Status", "off")
    except ClientError:
        versioning = None
    if versioning == "Enabled":
        advice = "What `gc` removes is still kept and paid for: add a lifecycle rule that ends noncurrent versions."
        yield Check("bucket versioning", "warning", "on", advice)
    elif versioning:
        yield Check("bucket versioning", "ok", versioning.lower())
    try:
        rules: list[Any] = store.client.get_bucket_lifecycle_configuration(Bucket=store.bucket).get("Rules", [])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            return  # may not look, or no such thing here
        rules = []
    yield _lifecycle(store, [rule for rule in rules if rule.get("Status") == "Enabled"])


def _lifecycle(store: Store, rules: list[Any]) -> Check:
    ends = [rule for rule in rules if "Expiration" in rule and _reaches(rule, store.prefix)]
    if any("Days" in rule["Expiration"] or "Date" in rule["Expiration"] for rule in ends):
        advice = "It deletes models behind Roundtrip's back. Limit the rule to other prefixes; `gc` removes old versions."
        return Check("bucket lifecycle", "problem", "a rule ends objects below this store", advice)
    if not any("AbortIncompleteMultipartUpload" in rule for rule in rules):
        advice = "Add a rule that aborts unfinished multipart uploads after a few days; `gc` does it too."
        return Check("bucket lifecycle", "ok", "no rule ends models", advice)
    return Check("bucket lifecycle", "ok", "ends unfinished uploads, no models")


def _reaches(rule: Any, prefix: str) -> bool:
    """Whether a rule is about keys below the prefix, or may be."""
    only = rule.get("Filter", {})
    below = only.get("Prefix") or only.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
    return bool(below.startswith(prefix) or prefix.startswith(below))


def _costs() -> Check:
    """Requests of each step, and their price on Amazon S3."""
    parts = [f"{what} {writes + reads} requests" for what, writes, reads in REQUESTS]
    thousand = 1000 * sum(writes * _WRITE + reads * _READ for _, writes, reads in REQUESTS)
    return Check("cost", "ok", f"{', '.join(parts)}: ${thousand:.2f} for 1,000 of each on Amazon S3, for 8 small files")
