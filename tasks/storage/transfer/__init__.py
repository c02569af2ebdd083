"""Files to and from the store: `upload` and `download`, and how their progress is told.

Both ways: parallel in and across files, bounded memory, every byte hashed once and checked at the other end, and a second
attempt moves only what is missing. `uploads.py` and `downloads.py` say how, README.md what was measured.
"""

from tasks.storage.transfer.downloads import download
from tasks.storage.transfer.hashing import file_entries, sha256_of
from tasks.storage.transfer.progress import Moved, Progress, Snapshot, nobody
from tasks.storage.transfer.uploads import upload

__all__ = ["Moved", "Progress", "Snapshot", "download", "file_entries", "nobody", "sha256_of", "upload"]
