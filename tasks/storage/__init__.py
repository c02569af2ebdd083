"""Where versions live: any S3 store, with a commit that is seen whole or not at all.

Fifth room. `open_store(config)` gives a `Store`; `publish` uploads a bundle and commits it by writing its manifest;
`resolve` turns `model@alias` into a version; `fetch` brings a version's files back, each checked; `move_alias` appends to
an alias' history; `list_models` is the catalog; `remove_version` removes one version, `plan` and `carry_out` what nobody
needs any more. The protocol, its invariants and what a reader sees after a crash: README.md in this folder.
"""

from tasks.storage.aliases import Revision, advance_latest, alias_history, move_alias, take_away
from tasks.storage.catalog import Filter, ModelSummary, list_models
from tasks.storage.checkpoints import StoredCheckpoints
from tasks.storage.connection.client import Access
from tasks.storage.manifest import Environment, FileEntry, Manifest
from tasks.storage.store import Store, open_store
from tasks.storage.upkeep.collect import Done, Plan, Removal, carry_out, plan
from tasks.storage.upkeep.removal import Freed, remove_leftover, remove_model, remove_version
from tasks.storage.upkeep.retention import Retention
from tasks.storage.versions import (
    VersionRef,
    commit,
    fetch,
    list_versions,
    publish,
    read_manifest,
    resolve,
    upload_files,
)

__all__ = [
    "Access",
    "Done",
    "Environment",
    "FileEntry",
    "Filter",
    "Freed",
    "Manifest",
    "ModelSummary",
    "Plan",
    "Removal",
    "Retention",
    "Revision",
    "Store",
    "StoredCheckpoints",
    "VersionRef",
    "advance_latest",
    "alias_history",
    "carry_out",
    "commit",
    "fetch",
    "list_models",
    "list_versions",
    "move_alias",
    "open_store",
    "plan",
    "publish",
    "read_manifest",
    "remove_leftover",
    "remove_model",
    "remove_version",
    "resolve",
    "take_away",
    "upload_files",
]
