"""The catalog: one line a model, for lists. Models are read side by side: a list request or three, and one read an alias."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

from pydantic import BaseModel

from tasks.storage import index, layout
from tasks.storage.aliases import aliases, first_of_each, read_revision
from tasks.storage.parallel import in_parallel
from tasks.storage.store import Store
from tasks.storage.upkeep import inventory

# Keys of a model that one request reads whole. More would make SeaweedFS walk through too many folders (0.2 s a thousand).
_SMALL = 200


class ModelSummary(BaseModel):
    """One line of `list`.

    Attributes:
        versions: How many can be seen.
        latest: The version that `latest` points at; None until one passed verification.
        formats: Of all versions, each once.
        bytes: Of all versions' files.
        newest: The newest version, verified or not, and `published`, when its id was made.
    """

    model_config = {"frozen": True}

    model: str
    versions: int
    latest: str | None
    aliases: dict[str, str]
    formats: list[str] = []
    bytes: int = 0
    newest: str | None = None
    published: datetime | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which models a list shows; what is None asks nothing. Ages are those of a model's newest version.

    Attributes:
        names: Patterns, of which one must match.
        format: One version at least has it.
        alias: The model has it.
        verified: `verified` models have a `latest`, `unverified` ones don't.
    """

    names: Sequence[str] = ()
    format: str | None = None
    alias: str | None = None
    verified: Literal["verified", "unverified"] | None = None
    newer_than: timedelta | None = None
    older_than: timedelta | None = None

    def shows(self, model: ModelSummary, now: datetime) -> bool:
        """Whether a model is shown."""
        age = now - (model.published or now)
        return all(
            (
                inventory.matches(model.model, self.names),
                self.format is None or self.format in model.formats,
                self.alias is None or self.alias in model.aliases,
                self.verified is None or (model.latest is not None) == (self.verified == "verified"),
                self.newer_than is None or age < self.newer_than,
                self.older_than is None or age >= self.older_than,
            )
        )


def list_models(store: Store, wanted: Filter = Filter(), limit: int | None = None) -> list[ModelSummary]:
    """Models that have a version that can be seen, by name; at most `limit`."""
    now = store.now()
    names = sorted(inventory.models(store, wanted.names))
    with closing(_summaries(store, names)) as found:
        return list(islice((model for model in found if wanted.shows(model, now)), limit))


def _summaries(store: Store, names: Sequence[str]) -> Generator[ModelSummary]:
    with closing(in_parallel(lambda name: _summary(store, name), names)) as found:
        yield from (model for model in found if model.versions)


def _summary(store: Store, model: str) -> ModelSummary:
    keys = store.keys(f"{model}/", limit=_SMALL)
    if len(keys) < _SMALL:
        revisions = first_of_each([key for key in keys if key.startswith(layout.aliases(model))])
        newest = [read_revision(store, key) for key in revisions]
        pointers = {revision.alias: revision.version for revision in newest if revision.version}
        lines = [key for key in keys if key.startswith(layout.index(model))]
        prefix = layout.versions(model)
        folders = {key.removeprefix(prefix).partition("/")[0] for key in keys if key.startswith(prefix)}
        versions = index.complete(store, model, lines, folders)
    else:
        pointers, versions = aliases(store, model), index.listed(store, model)
    last = versions[-1].version if versions else None
    return ModelSummary(
        model=model,
        versions=len(versions),
        latest=pointers.get(layout.LATEST),
        aliases=pointers,
        formats=sorted({each.format for each in versions}),
        bytes=sum(each.size for each in versions),
        newest=last,
        published=layout.made_at(last) if last else None,
    )
