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
_REVISION = re.compile(r"(?P<model>[^/]+)/aliases/(?P<alias>[^/]+)/(?P<number>\d{10})\.json")
_VERDICT = re.compile(r"(?P<model>[^/]+)/verdicts/(?P<version>[0-9a-f-]{36})/(?P<id>[0-9a-f-]{36})\.json")

Version = tuple[str, str]


@dataclass(slots=True)
class Witness:
    """Remembers what it saw of one store prefix, and complains of anything that may not be.

    Attributes:
        seen: ETag and size of every key that may never change.
        whole: Versions whose every byte was checked.
    """

    client: S3Client
    bucket: str
    prefix: str
    seen: dict[str, tuple[str, int]] = field(default_factory=dict)
    whole: set[Version] = field(default_factory=set)
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

    def unfinished_uploads(self) -> list[str]:
        """Keys of multipart uploads that were neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        return [upload["Key"] for upload in found.get("Uploads", [])]

    def complaints(self) -> list[str]:
        """What is wrong with the store now, or changed since the last look; empty where nothing is."""
        keys = self.keys()
        said = [f"{key} changed or is gone" for key, what in self.seen.items() if keys.get(key) != what]
        visible = {(m["model"], m["version"]) for key in keys if (m := _COMMITTED.fullmatch(key))}
        for version in sorted(visible - self.whole):
            wrong = self._version(*version)
            said += wrong
            if not wrong:
                self.whole.add(version)
        said += self._aliases(keys, visible)
        self._remember(keys, visible)
        return said

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

    def _aliases(self, keys: dict[str, tuple[str, int]], visible: set[Version]) -> list[str]:
        said, numbers = [], dict[tuple[str, str], list[int]]()
        for key in keys:
            if match := _REVISION.fullmatch(key):
                number = 10**10 - 1 - int(match["number"])
                numbers.setdefault((match["model"], match["alias"]), []).append(number)
                said += self._revision(key, match["model"], number, keys, visible)
        said += [
            f"{model}@{alias} has the revisions {sorted(found)}"
            for (model, alias), found in numbers.items()
            if sorted(found) != list(range(len(found)))
        ]
        return said

    def _revision(
        self, key: str, model: str, number: int, keys: dict[str, tuple[str, int]], visible: set[Version]
    ) -> list[str]:
        revision = self._document(key)
        if revision is None or revision.get("number") != number:
            return [f"{key} is no revision {number}"]
        version = str(revision["version"])
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
