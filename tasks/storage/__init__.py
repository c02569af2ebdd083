"""Where versions live: any S3 store, with a commit that is seen whole or not at all.

Fifth room. `open_store(config)` gives a `Store`; `publish` uploads a bundle and commits it by writing its manifest;
`resolve` turns `model@alias` into a version; `fetch` brings a version's files back, each checked; `move_alias` appends to
an alias' history. The protocol, its invariants and what a reader sees after a crash: README.md in this folder.
"""

from tasks.storage.aliases import Revision, advance_latest, alias_history, move_alias
from tasks.storage.client import Access
from tasks.storage.manifest import Environment, FileEntry, Manifest
from tasks.storage.store import Store, open_store
from tasks.storage.versions import (
    VersionRef,
    commit,
    fetch,
    list_models,
    list_versions,
    publish,
    read_manifest,
    resolve,
    upload_files,
)

__all__ = [
    "Access",
    "Environment",
    "FileEntry",
    "Manifest",
    "Revision",
    "Store",
    "VersionRef",
    "advance_latest",
    "alias_history",
    "commit",
    "fetch",
    "list_models",
    "list_versions",
    "move_alias",
    "open_store",
    "publish",
    "read_manifest",
    "resolve",
    "upload_files",
]
