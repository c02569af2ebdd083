"""An independent reader: plain boto3, straight to the server, with no line of ours between it and the keys."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_COMMITTED = re.compile(r"(?P<model>[^/]+)/versions/(?P<version>[0-9a-f-]{36})/manifest\.json")
_OF_A_VERSION = re.compile(r"(?P<model>[^/]+)/(?:versions|verdicts|holds)/(?P<version>[0-9a-f-]{36})/")
_REVISION = re.compile(r"(?P<model>[^/]+)/aliases/(?P<alias>[^/]+)/(?P<number>\d{10})\.json")
_VERDICT = re.compile(r"(?P<model>[^/]+)/verdicts/(?P<version>[0-9a-f-]{36})/(?P<id>[0-9a-f-]{36})\.json")

# What stands in the place of a removed version's manifest, as lists show it.
_MARK = ('"' + hashlib.md5(b'{"removed": true}\n').hexdigest() + '"', 18)

Version = tuple[str, str]


@dataclass(slots=True)
class Witness:
    """Remembers what it saw of one store prefix, and complains of anything that may not be.

    Attributes:
        seen: ETag and size of every key that may never change.
        whole: Versions whose every byte was checked.
        last: All keys at the last look.
        removable: Versions that may be removed, though nothing of them may change before.
    """

    client: S3Client
    bucket: str
    prefix: str
    seen: dict[str, tuple[str, int]] = field(default_factory=dict)
    whole: set[Version] = field(default_factory=set)
    removable: set[Version] = field(default_factory=set)
    last: dict[str, tuple[str, int]] = field(default_factory=dict)
    _documents: dict[str, Any] = field(default_factory=dict)

    def keys(self) -> dict[str, tuple[str, int]]:
        """Every key below the prefix, with its ETag and size."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return {
            item["Key"].removeprefix(self.prefix): (item["ETag"], item["Size"])
            for page in pages
            for item in page.get("Contents", [])
        }

    def body(self, key: str) -> bytes:
        """An object's bytes."""
        return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()

    def litter(self) -> list[str]:
        """What lay about invisible versions at the last look, and unfinished uploads now."""
        lying = [
            key
            for key in self.last
            if (m := _OF_A_VERSION.match(key)) and m.groups() not in self.whole and not _COMMITTED.fullmatch(key)
        ]
        return lying + self.unfinished_uploads()

    def unfinished_uploads(self) -> list[str]:
        """Keys of multipart uploads that were neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        return [upload["Key"] for upload in found.get("Uploads", [])]

    def complaints(self) -> list[str]:
        """What is wrong with the store now, or changed since the last look; empty where nothing is."""
        keys = self.last = self.keys()
        found = {(m["model"], m["version"]): what for key, what in keys.items() if (m := _COMMITTED.fullmatch(key))}
        marked = {version for version, what in found.items() if what == _MARK}
        self._forget(marked & self.removable)
        said = [f"{key} changed or is gone" for key, what in self.seen.items() if keys.get(key) != what]
        visible = found.keys() - marked
        for version in sorted(visible - self.whole):
            wrong = self._version(*version)
            said += wrong
            if not wrong:
                self.whole.add(version)
        said += self._aliases(keys, visible, marked)
        self._remember(keys, visible)
        return said

    def _forget(self, removed: set[Version]) -> None:
        self.whole -= removed
        places = tuple(f"{model}/{room}/{version}/" for model, version in removed for room in ("versions", "verdicts"))
        self.seen = {key: what for key, what in self.seen.items() if not key.startswith(places)}

    def _version(self, model: str, version: str) -> list[str]:
        place = f"{model}/versions/{version}/"
        try:
            manifest = json.loads(self.body(place + "manifest.json"))
        except ValueError as error:
            return [f"{place}manifest.json is visible and no JSON: {error}"]
        if (manifest.get("model"), manifest.get("version")) != (model, version):
            return [f"{place}manifest.json is another version's"]
        said = []
        for file in manifest["files"]:
            try:
                body = self.body(place + file["path"])
            except self.client.exceptions.NoSuchKey:
                said.append(f"{place}{file['path']} is missing from a visible version")
                continue
            if (len(body), hashlib.sha256(body).hexdigest()) != (file["size"], file["sha256"]):
                said.append(f"{place}{file['path']} of a visible version is not what its manifest says")
        return said

    def _aliases(self, keys: dict[str, tuple[str, int]], visible: set[Version], marked: set[Version]) -> list[str]:
        histories: dict[tuple[str, str], list[int]] = {}
        for key in keys:
            if match := _REVISION.fullmatch(key):
                histories.setdefault((match["model"], match["alias"]), []).append(10**10 - 1 - int(match["number"]))
        said = []
        for (model, alias), numbers in histories.items():
            if sorted(numbers) != list(range(len(numbers))):
                said.append(f"{model}@{alias} has the revisions {sorted(numbers)}")
            for number in numbers:
                # Where an alias pointed once may have been removed since.
                gone = set() if number == max(numbers) else marked
                said += self._revision(
                    f"{model}/aliases/{alias}/{10**10 - 1 - number:010d}.json", number, keys, visible, gone
                )
        return said

    def _revision(
        self, key: str, number: int, keys: dict[str, tuple[str, int]], visible: set[Version], gone: set[Version]
    ) -> list[str]:
        model, revision = key.partition("/")[0], self._document(key)
        if revision is None or revision.get("number") != number:
            return [f"{key} is no revision {number}"]
        version = str(revision["version"])
        if (model, version) in gone:
            return []
        if (model, version) not in visible:
            return [f"{key} points at {version}, which is not visible"]
        verdict = f"{model}/verdicts/{version}/{revision['verdict']}.json"
        if verdict not in keys or not (self._document(verdict) or {}).get("passed"):
            return [f"{key} points at {version}, which has no passed verdict {revision['verdict']}"]
        return []

    def _document(self, key: str) -> Any:
        if key not in self._documents:
            try:
                self._documents[key] = json.loads(self.body(key))
            except ValueError:
                self._documents[key] = None
        return self._documents[key]

    def _remember(self, keys: dict[str, tuple[str, int]], visible: set[Version]) -> None:
        for key, what in keys.items():
            model, _, rest = key.partition("/versions/")
            if _REVISION.fullmatch(key) or _VERDICT.fullmatch(key) or (model, rest.partition("/")[0]) in visible:
                self.seen[key] = what
